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

bool StreamDetector::recent(std::int64_t first, unsigned pages) const {
    return std::any_of(recent_.begin(), recent_.end(), [&](std::int64_t page) {
        return page != 0 && page >= first && page < first + static_cast<std::int64_t>(pages);
    });
}

Prefetch StreamDetector::begin(std::int64_t page, std::int64_t stride, unsigned window) {
    auto& stream = *std::min_element(streams_.begin(), streams_.end(),
                                     [](const Stream& a, const Stream& b) { return a.used < b.used; });
    stream = {page, stride, window, now_};
    return advance(stream, page);
}

Prefetch StreamDetector::fault(std::int64_t page, unsigned together) {
    ++now_;
    const auto step = static_cast<std::int64_t>(together);
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
        if (std::abs(stride) == step && step > 1) break;  // neighbours in between came unasked
        return begin(page, stride, firstWindow);
    }
    // So do three groups of neighbours, one after the other.
    if (step > 1) {
        const auto first = page & ~(step - 1);
        for (const auto direction : {step, -step})
            if (recent(first - direction, together) && recent(first - 2 * direction, together))
                return begin(page, direction / step, std::clamp(together, 2 * firstWindow, maxWindow));
    }
    recent_[recentEnd_] = page;
    recentEnd_ = (recentEnd_ + 1) % recentCount;
    return {};
}

}  // namespace thermocline::memory
