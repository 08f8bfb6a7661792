// SPDX-License-Identifier: Apache-2.0
#include "memory/proactive_policy.h"

#include <gtest/gtest.h>

namespace thermocline::memory {
namespace {

using namespace std::chrono_literals;
constexpr std::uint64_t mib = 1U << 20;
constexpr std::uint64_t memory = 1024 * mib;

/// Bytes staged in `ticks` ticks with the same stall in each.
std::uint64_t run(ProactivePolicy& policy, int ticks, std::chrono::nanoseconds stall,
                  std::uint64_t faults = 0) {
    std::uint64_t bytes = 0;
    for (int i = 0; i < ticks; ++i)
        bytes += policy.next({ProactivePolicy::tick, stall, faults, memory, 0}).stageBytes;
    return bytes;
}

TEST(ProactivePolicy, anIdleGuestIsProbedEverFasterUpToABound) {
    ProactivePolicy policy({}, memory);
    const auto first = policy.rate();
    run(policy, 100, 0ns);
    EXPECT_GT(policy.rate(), 10 * first);
    EXPECT_DOUBLE_EQ(policy.rate(), static_cast<double>(memory) / 4);
    // Two passes' worth in two passes' time, and no more.
    EXPECT_NEAR(static_cast<double>(run(policy, 80, 0ns)), 2.0 * memory, 4.0 * mib);
}

TEST(ProactivePolicy, aStallAboveTheTargetEndsProbingAtOnce) {
    ProactivePolicy policy({.maxStall = 0.005, .minResidentBytes = 0}, memory);
    run(policy, 100, 0ns);
    const auto before = policy.rate();
    // What was saved up covers 10 ms; this is 20 ms of 100.
    EXPECT_EQ(policy.next({100ms, 20ms, 0, memory, 0}).stageBytes, 0U);
    EXPECT_DOUBLE_EQ(policy.rate(), before / 4);
    EXPECT_TRUE(policy.next({100ms, 20ms, 0, memory, 0}).unstage)
        << "deep in debt: what is staged comes back";
}

TEST(ProactivePolicy, overALongTimeTheStallStaysAtTheTarget) {
    // A guest whose memory is all hot: each probed block costs a fault of 100 us, in the next tick.
    ProactivePolicy policy({.maxStall = 0.005, .minResidentBytes = 0}, memory);
    std::uint64_t blocks = 0;
    double stall = 0;
    for (int i = 0; i < 6000; ++i) {
        stall += static_cast<double>(blocks) * 110e-6;
        blocks = policy.next({100ms, blocks * 100us, blocks, memory, 0}).stageBytes / (2 * mib);
    }
    EXPECT_LT(stall / 600, 0.0055);
    EXPECT_GT(stall / 600, 0.001) << "it should use what it may";
}

TEST(ProactivePolicy, switchesCountEvenWhereTheHandlerIsQuick) {
    ProactivePolicy policy({.maxStall = 0.005, .minResidentBytes = 0}, memory);
    EXPECT_EQ(policy.next({100ms, 0ns, 1000, memory, 0}).stageBytes, 0U) << "1000 faults are 10 ms";
}

TEST(ProactivePolicy, theFloorIsKept) {
    ProactivePolicy policy({.maxStall = 0.005, .minResidentBytes = 512 * mib}, memory);
    run(policy, 100, 0ns);
    EXPECT_EQ(policy.next({10s, 0ns, 0, 400 * mib, 100 * mib}).stageBytes, 0U);
    EXPECT_EQ(policy.next({10s, 0ns, 0, 513 * mib, 0}).stageBytes, 1 * mib);
}

}  // namespace
}  // namespace thermocline::memory
