// SPDX-License-Identifier: Apache-2.0
#include "memory/proactive_policy.h"

#include <algorithm>

#include "memory/page.h"

namespace thermocline::memory {
namespace {

constexpr double firstPassSeconds = 60;
constexpr double slowestPassSeconds = 3600;
constexpr double growth = 1.25;  // per tick without trouble
constexpr double backOff = 0.25;
/// Stall is saved up for this long.
constexpr double savedSeconds = 2;

double seconds(std::chrono::nanoseconds time) {
    return std::chrono::duration<double>(time).count();
}

}  // namespace

ProactivePolicy::ProactivePolicy(Settings settings, std::uint64_t memoryBytes)
    : settings_(settings),
      memoryBytes_(static_cast<double>(memoryBytes)),
      rate_(memoryBytes_ / firstPassSeconds) {}

double ProactivePolicy::fastest() const {
    return memoryBytes_ / seconds(fastestPass);
}

ProactivePolicy::Decision ProactivePolicy::next(const Observed& observed) {
    const auto elapsed = seconds(observed.elapsed);
    const auto stall = seconds(observed.stall + switchCost * static_cast<std::int64_t>(observed.faults));
    const auto most = settings_.maxStall * savedSeconds;
    allowance_ = std::min(allowance_ + settings_.maxStall * elapsed - stall, most);
    if (allowance_ < 0) {
        rate_ = std::max(rate_ * backOff, memoryBytes_ / slowestPassSeconds);
        // Long debts (the guest faults for another reason: a limit, a phase that was cold) are written off in
        // part, or nothing would ever be probed again.
        const bool deep = allowance_ < -most;
        allowance_ = std::max(allowance_, -10 * most);
        carried_ = 0;
        return {0, deep};
    }
    if (stall < settings_.maxStall * elapsed / 2) rate_ = std::min(rate_ * growth, fastest());
    carried_ += rate_ * elapsed;
    if (observed.residentBytes + observed.stagedBytes <= settings_.minResidentBytes) carried_ = 0;
    const auto blocks = static_cast<std::uint64_t>(carried_ / blockBytes);
    carried_ -= static_cast<double>(blocks * blockBytes);
    auto bytes = blocks * blockBytes;
    if (settings_.minResidentBytes > 0) {
        const auto above = observed.residentBytes + observed.stagedBytes;
        bytes = std::min(bytes, above - std::min(above, settings_.minResidentBytes + observed.stagedBytes));
    }
    return {bytes, false};
}

}  // namespace thermocline::memory
