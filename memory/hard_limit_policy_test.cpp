// SPDX-License-Identifier: Apache-2.0
#include "memory/hard_limit_policy.h"

#include <gtest/gtest.h>

namespace thermocline::memory {
namespace {

constexpr std::uint64_t mib = 1U << 20;
using Action = HardLimitPolicy::Action;

TEST(HardLimitPolicy, startsBelowTheLimitAndStopsWithHeadroom) {
    const HardLimitPolicy policy(512 * mib);
    EXPECT_EQ(policy.headroom(), 4 * mib);
    EXPECT_FALSE(policy.mustStart(509 * mib));
    EXPECT_TRUE(policy.mustStart(509 * mib + 1));
    EXPECT_EQ(policy.next({508 * mib, 400 * mib, 0}, PoolShare::most), Action::nothing);
    EXPECT_NE(policy.next({508 * mib + 1, 400 * mib, 0}, PoolShare::most), Action::nothing);
}

TEST(HardLimitPolicy, keepsAnEighthStagedBeforeItEvicts) {
    const HardLimitPolicy policy(512 * mib);
    EXPECT_EQ(policy.next({600 * mib, 560 * mib, 0}, PoolShare::most), Action::stage);
    EXPECT_EQ(policy.next({600 * mib, 491 * mib, 69 * mib}, PoolShare::most), Action::stage);
    EXPECT_EQ(policy.next({600 * mib, 490 * mib, 70 * mib}, PoolShare::most), Action::evict);
}

TEST(PoolShare, shrinksToNothingWhereEverythingIsHotAndComesBack) {
    PoolShare share;
    EXPECT_EQ(share.value(), 0.125);
    int times = 0;
    for (; !share.forced(); ++times)
        share.touched();
    EXPECT_EQ(times, 7);
    EXPECT_EQ(HardLimitPolicy(512 * mib).next({600 * mib, 560 * mib, 0}, share.value()), Action::evict);
    for (int i = 0; i < 20; ++i)
        share.evicted();
    EXPECT_EQ(share.value(), 0.125);
}

TEST(HardLimitPolicy, headroomIsBounded) {
    EXPECT_EQ(HardLimitPolicy(16 * mib).headroom(), 4 * mib);
    EXPECT_EQ(HardLimitPolicy(1024 * 1024 * mib).headroom(), 64 * mib);
}

}  // namespace
}  // namespace thermocline::memory
