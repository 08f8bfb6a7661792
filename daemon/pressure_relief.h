// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>

namespace thermocline {

/// How much less than the budget there is to give out while the host waits for memory: with each pressure a
/// 32nd of what the VMs use, at most a quarter of it and once in half a second; it halves every 10 s. Belongs
/// to one thread.
class PressureRelief {
  public:
    using Time = std::chrono::steady_clock::time_point;

    /// The host has waited for memory (HostPressure). `used`: by all VMs. True where that cuts more.
    bool pressed(Time now, std::uint64_t used) {
        if (now < last_ + std::chrono::milliseconds(500)) return false;
        constexpr double step = 1.0 / 32;
        constexpr double most = 1.0 / 4;
        const auto all = static_cast<double>(used);
        const double before = at(now);
        cut_ = std::max(before, std::min(before + all * step, all * most));
        last_ = now;
        return cut_ > before;
    }
    /// Bytes; 0 below 1 MiB.
    [[nodiscard]] std::uint64_t cut(Time now) const {
        constexpr double least = 1U << 20;
        const double bytes = at(now);
        return bytes < least ? 0 : static_cast<std::uint64_t>(bytes);
    }

  private:
    [[nodiscard]] double at(Time now) const {
        constexpr double halfLifeSeconds = 10;
        return cut_ * std::exp2(-std::chrono::duration<double>(now - last_).count() / halfLifeSeconds);
    }

    double cut_ = 0;
    Time last_{};
};

}  // namespace thermocline
