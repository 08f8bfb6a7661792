// SPDX-License-Identifier: Apache-2.0
#include "daemon/memory_need.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/byte_size.h"

namespace thermocline {
namespace {

using namespace std::chrono_literals;

constexpr double pageBytes = 4096;
constexpr double horizonSeconds = 4;  ///< pages that came back are counted for so long ahead
constexpr double halfLifeSeconds = 20;
constexpr double waits = 0.02;       ///< a share of time: who waits so much has too little
constexpr double growth = 1.0 / 16;  ///< of RAM, that it then needs beyond what it has
constexpr auto window = 10s;
constexpr auto longestHold = 600s;
/// Saved for each byte that the store grows by: what compresses to half saves 1, and is worth it.
constexpr double leastReturn = 0.5;
constexpr std::uint64_t leastGrowth = 8U << 20;  ///< of a store, to be judged

std::uint64_t rise(std::uint64_t now, std::uint64_t before) {
    return now > before ? now - before : 0;
}

}  // namespace

void MemoryNeed::observe(Time now, const manager::Status& status) {
    if (last_ && (last_->pid != status.pid || status.faults < last_->faults)) *this = {};
    auto needed = static_cast<double>(status.residentBytes);
    double seconds = 0;
    if (last_) {
        seconds = std::chrono::duration<double>(now - lastTime_).count();
        const double back = static_cast<double>(rise(status.coldFaults, last_->coldFaults) +
                                                rise(status.frozenFaults, last_->frozenFaults) +
                                                rise(status.prefetchedPages, last_->prefetchedPages));
        if (seconds > 0) needed += back * pageBytes / seconds * horizonSeconds;
    }
    const auto ram = static_cast<double>(status.memoryBytes);
    if (status.limitBytes != 0 && status.stallRatio > waits)
        needed = std::max(needed, static_cast<double>(status.usedBytes) + ram * growth);
    needed = std::min(needed, ram);
    bytes_ = std::max(needed, needed + (bytes_ - needed) * std::exp2(-seconds / halfLifeSeconds));
    watchStore(now, status);
    // Less would not be met either: what it has is what it takes.
    if (!status.limitMet && !status.limitNote.empty() && now >= heldUntil_)
        hold(now, "its manager has nothing left to take");
    last_ = status;
    lastTime_ = now;
}

void MemoryNeed::watchStore(Time now, const manager::Status& status) {
    looks_.push_back({now, status.coldBytes + status.frozenBytes, status.storeBytes + status.metadataBytes});
    while (looks_.size() > 2 && now - looks_[1].time >= window)
        looks_.pop_front();
    const auto& first = looks_.front();
    const std::uint64_t grown = rise(looks_.back().store, first.store);
    if (grown < std::max(leastGrowth, status.memoryBytes / 128)) return;
    const std::uint64_t saved = rise(rise(looks_.back().away, first.away), grown);
    const auto passed = std::chrono::round<std::chrono::seconds>(now - first.time).count();
    // Judged once: the next window begins here.
    looks_.erase(looks_.begin(), looks_.end() - 1);
    if (static_cast<double>(saved) >= static_cast<double>(grown) * leastReturn) {
        holdNext_ = 30s;
        return;
    }
    hold(now, fmt::format("its store grew by {} within {} s and saved only {}", formatByteSize(grown), passed,
                          formatByteSize(saved)));
}

void MemoryNeed::hold(Time now, std::string why) {
    storeNote_ = std::move(why);
    heldUntil_ = now + holdNext_;
    holdNext_ = std::min(holdNext_ * 2, std::chrono::seconds(longestHold));
}

}  // namespace thermocline
