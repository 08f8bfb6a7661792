// SPDX-License-Identifier: Apache-2.0
#pragma once

// How fast to look for cold memory when no limit asks for it, given the stall that the guest may suffer: a
// closed loop on the stall that the fault handler measures. Stall that is allowed and not used is saved up
// (for a short while); probing goes on while there is some, faster where it costs nothing, and stops at once
// when there is none. Like TCP's congestion control (AIMD, Jacobson 1988), with stall in the place of loss.
// Pure arithmetic, no clock; not thread-safe.

#include <chrono>
#include <cstdint>

namespace thermocline::memory {

class ProactivePolicy {
  public:
    struct Settings {
        double maxStall = 0.005;             ///< share of wall time, leastStall to mostStall
        std::uint64_t minResidentBytes = 0;  ///< the guest keeps this much in memory, however cold
        friend bool operator==(const Settings&, const Settings&) = default;
    };
    /// What happened since the last tick, and what there is now.
    struct Observed {
        std::chrono::nanoseconds elapsed{};
        std::chrono::nanoseconds stall{};  ///< as the fault handler measures it
        std::uint64_t faults = 0;          ///< how many it served
        std::uint64_t residentBytes = 0;
        std::uint64_t stagedBytes = 0;
    };
    struct Decision {
        std::uint64_t stageBytes = 0;  ///< move so much aside now
        bool unstage = false;          ///< bring back what is staged and still on probation
    };
    static constexpr double leastStall = 0.0001;
    static constexpr double mostStall = 0.5;
    /// How long a page stays staged, untouched, before it goes to the store.
    static constexpr auto probation = std::chrono::seconds(5);
    static constexpr auto tick = std::chrono::milliseconds(100);
    /// What a fault costs the guest beyond the handler's own time: two context switches, or wake-ups.
    static constexpr auto switchCost = std::chrono::microseconds(10);
    /// One pass over a guest's memory takes at least this long.
    static constexpr auto fastestPass = std::chrono::seconds(4);

    /// Where nothing is known yet probing starts with a pass of about a minute.
    ProactivePolicy(Settings settings, std::uint64_t memoryBytes);
    Decision next(const Observed& observed);

    [[nodiscard]] const Settings& settings() const { return settings_; }
    /// Bytes per second at which memory is probed now.
    [[nodiscard]] double rate() const { return rate_; }

  private:
    [[nodiscard]] double fastest() const;

    Settings settings_;
    double memoryBytes_;
    double rate_;
    double allowance_ = 0;  // seconds of stall saved up; negative: overdrawn
    double carried_ = 0;    // bytes of less than a block
};

}  // namespace thermocline::memory
