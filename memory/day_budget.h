// SPDX-License-Identifier: Apache-2.0
#pragma once

// How much was written in the last 24 hours, in steps of an hour. Rounds the safe way: what is an hour's part
// older than a day still counts, so that no 24 hours can see more than the budget. Not thread-safe.

#include <array>
#include <chrono>
#include <cstdint>

namespace thermocline::memory {

class DayBudget {
  public:
    using Time = std::chrono::steady_clock::time_point;

    void add(Time now, std::uint64_t bytes) {
        const auto hour = hourOf(now);
        auto& slot = hours_[static_cast<std::size_t>(hour) % hours_.size()];
        if (slot.hour != hour) slot = {hour, 0};
        slot.bytes += bytes;
    }
    [[nodiscard]] std::uint64_t lastDay(Time now) const {
        const auto hour = hourOf(now);
        std::uint64_t bytes = 0;
        for (const auto& slot : hours_)
            if (hour - slot.hour <= 24) bytes += slot.bytes;
        return bytes;
    }

  private:
    struct Hour {
        std::int64_t hour = 0;
        std::uint64_t bytes = 0;
    };
    static std::int64_t hourOf(Time now) {
        return std::chrono::floor<std::chrono::hours>(now.time_since_epoch()).count();
    }
    std::array<Hour, 25> hours_{};
};

}  // namespace thermocline::memory
