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
    EXPECT_EQ(share.value(), PoolShare::first);
    int times = 0;
    for (; !share.forced(); ++times)
        share.touched();
    EXPECT_EQ(times, 5);
    EXPECT_EQ(HardLimitPolicy(512 * mib).next({600 * mib, 560 * mib, 0}, share.value()), Action::evict);
    for (int i = 0; i < 20; ++i)
        share.evicted();
    EXPECT_EQ(share.value(), PoolShare::first);
}

/// Observed so often that it has decided, and become what it wants to be.
double settled(PoolShare& share, const PoolShare::Back& back, std::uint64_t staged, std::uint64_t cold) {
    for (int i = 0; i < 40; ++i) {
        share.observe(back, staged, cold);
        share.evicted();
    }
    return share.value();
}

TEST(PoolShare, isLargeWhereWhatPassedItIsSeldomTouched) {
    PoolShare share;
    // A staged page is touched 0.4 times a second, say, a cold one 0.001 times.
    EXPECT_EQ(settled(share, {400, 400, 50, 50}, 1000, 50000), PoolShare::most);
    // Nobody wants what is cold.
    PoolShare other;
    EXPECT_EQ(settled(other, {300, 300, 0, 0}, 1000, 900000), PoolShare::most);
}

TEST(PoolShare, isSmallWhereAllPagesAreAlike) {
    // Random: 1.2 touches a second, staged or cold.
    PoolShare share;
    EXPECT_EQ(settled(share, {1200, 1200, 60000, 60000}, 1000, 50000), PoolShare::leastWanted);
    // Nobody wants what is staged, but somebody what is cold.
    EXPECT_EQ(settled(share, {0, 0, 1000, 1000}, 1000, 50000), PoolShare::leastWanted);
    // The other way round again.
    EXPECT_EQ(settled(share, {400, 400, 50, 50}, 1000, 50000), PoolShare::most);
}

TEST(PoolShare, isNeverWorthMoreThanTheStore) {
    // Staged pages are touched ten times as often as cold ones. But there are more of them than of those, and
    // each eviction costs twenty faults on them.
    PoolShare share;
    EXPECT_EQ(settled(share, {20000, 20000, 1000, 1000}, 20000, 10000), PoolShare::leastWanted);
}

TEST(PoolShare, countsPagesWhereOneFaultBringsMany) {
    // Huge pages: each is touched ten times a second, what is cold by the page.
    PoolShare share;
    EXPECT_EQ(settled(share, {20, 10240, 2000, 2000}, 1024, 50000), PoolShare::most);
    PoolShare pages;
    EXPECT_EQ(settled(pages, {20, 20, 2000, 2000}, 1024, 50000), PoolShare::leastWanted);
    // Whole blocks come back from the store by one fault, too.
    PoolShare blocks;
    EXPECT_EQ(settled(blocks, {200, 2000, 2000, 1024000}, 1024, 50000), PoolShare::leastWanted);
}

TEST(PoolShare, waitsUntilFaultsTellSomething) {
    PoolShare share;
    share.observe({0, 0, 255, 255}, 1000, 50000);
    EXPECT_EQ(share.value(), PoolShare::first);
    share.observe({0, 0, 1, 1}, 0, 50000);  // nothing is staged
    EXPECT_EQ(share.value(), PoolShare::first);
    share.observe({}, 1000, 50000);
    EXPECT_LT(share.value(), PoolShare::first);
    const double once = share.value();
    share.observe({0, 0, 127, 127}, 1000, 50000);  // half of what was told before counts still
    EXPECT_EQ(share.value(), once);
    share.observe({0, 0, 1, 1}, 1000, 50000);
    EXPECT_LT(share.value(), once);
}

TEST(HardLimitPolicy, headroomIsBounded) {
    EXPECT_EQ(HardLimitPolicy(16 * mib).headroom(), 4 * mib);
    EXPECT_EQ(HardLimitPolicy(1024 * 1024 * mib).headroom(), 64 * mib);
}

}  // namespace
}  // namespace thermocline::memory
