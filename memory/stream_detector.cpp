// SPDX-License-Identifier: Apache-2.0
#include "memory/stream_detector.h"

#include <algorithm>
#include <cstdlib>

namespace thermocline::memory {
namespace {

/// A stream may pass over this many of its pages that were there already.
constexpr std::int64_t maxSkip = 64;

}  // namespace

bool StreamDetector::recent(std::int64_t page) const {
    return std::find(recent_.begin(), recent_.end(), page) != recent_.end();
}

Prefetch StreamDetector::advance(Stream& stream, std::int64_t page) {
    const Prefetch ahead{page + stream.stride, stream.stride, stream.window, stream.window == maxWindow};
    stream.next = page + stream.stride * (static_cast<std::int64_t>(stream.window) + 1);
    stream.window = std::min(stream.window * 2, maxWindow);
    stream.used = now_;
    latest_ = &stream;
    return ahead;
}

Prefetch StreamDetector::fault(std::int64_t page) {
    ++now_;
    for (auto& stream : streams_) {
        if (stream.stride == 0) continue;
        const auto past = (page - stream.next) / stream.stride;
        if (past < 0 || past > maxSkip || stream.next + past * stream.stride != page) continue;
        return advance(stream, page);
    }
    // Three faults at equal distances make a stream. The latest first: the shortest way back in time.
    for (std::size_t age = 1; age <= recentCount; ++age) {
        const auto previous = recent_[(recentEnd_ + recentCount - age) % recentCount];
        const auto stride = page - previous;
        if (previous == 0 || stride == 0 || std::abs(stride) > maxStride || !recent(previous - stride))
            continue;
        auto& stream = *std::min_element(streams_.begin(), streams_.end(),
                                         [](const Stream& a, const Stream& b) { return a.used < b.used; });
        stream = {page, stride, firstWindow, now_};
        return advance(stream, page);
    }
    recent_[recentEnd_] = page;
    recentEnd_ = (recentEnd_ + 1) % recentCount;
    return {};
}

}  // namespace thermocline::memory
