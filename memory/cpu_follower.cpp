// SPDX-License-Identifier: Apache-2.0
#include "memory/cpu_follower.h"

#include <sched.h>

#include <algorithm>
#include <utility>

namespace thermocline::memory {

CpuFollower::CpuFollower()
    : seams_{[this](pid_t thread) { return lastCpu_.of(thread); },
             [](int cpu) {
                 cpu_set_t set;
                 CPU_ZERO(&set);
                 CPU_SET(cpu, &set);
                 return ::sched_setaffinity(0, sizeof set, &set) == 0;
             }} {}

std::optional<int> CpuFollower::elsewhere(pid_t thread) {
    const auto cpu = seams_.cpuOf(thread);
    return cpu && *cpu != this->cpu() ? cpu : std::nullopt;
}

void CpuFollower::follow(pid_t thread) {
    const auto cpu = elsewhere(thread);
    following_.judge(cpu.has_value());
    betweenLooks_ = cpu ? following_.pause : std::min(2 * betweenLooks_, mostBetweenLooks);
    untilLook_ = betweenLooks_;
    // Not at once, or it wanders: whoever follows it then pushes out others who work for it.
    if (cpu && std::exchange(seenOn_, *cpu) == *cpu) following_.tried = moveTo(*cpu);
}

bool CpuFollower::stayIsDue() {
    if (untilStay_ > 0) {
        --untilStay_;
        return false;
    }
    if (std::exchange(mayHaveMoved_, false)) return true;
    staying_.judge(false);
    return false;
}

void CpuFollower::stay(pid_t thread) {
    const auto cpu = elsewhere(thread);
    staying_.judge(cpu.has_value());
    if (!cpu) return;
    staying_.tried = moveTo(*cpu);
    untilStay_ = staying_.pause;
}

void CpuFollower::Worth::judge(bool moved) {
    if (std::exchange(tried, false)) pause = moved ? std::min(4 * pause, mostBetweenLooks) : (pause + 1) / 2;
}

bool CpuFollower::moveTo(int cpu) {
    if (!seams_.moveTo(cpu)) return false;
    cpu_.store(cpu, std::memory_order_relaxed);
    return true;
}

}  // namespace thermocline::memory
