// SPDX-License-Identifier: Apache-2.0
#include "daemon/pressure_relief.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t mib = 1 << 20;
const PressureRelief::Time start = PressureRelief::Time{} + 1h;

TEST(PressureRelief, cutsA32ndWithEachPressureAndHalvesIn10s) {
    PressureRelief relief;
    EXPECT_EQ(relief.cut(start), 0U);
    EXPECT_TRUE(relief.pressed(start, 1024 * mib));
    EXPECT_EQ(relief.cut(start), 32 * mib);
    EXPECT_EQ(relief.cut(start + 10s), 16 * mib);
    EXPECT_TRUE(relief.pressed(start + 10s, 1024 * mib));
    EXPECT_EQ(relief.cut(start + 10s), 48 * mib);
    EXPECT_EQ(relief.cut(start + 100s), 0U);
}

TEST(PressureRelief, cutsOnceInHalfASecond) {
    PressureRelief relief;
    EXPECT_TRUE(relief.pressed(start, 1024 * mib));
    EXPECT_FALSE(relief.pressed(start + 499ms, 1024 * mib));
    EXPECT_TRUE(relief.pressed(start + 500ms, 1024 * mib));
}

TEST(PressureRelief, cutsAtMostAQuarter) {
    PressureRelief relief;
    for (int i = 0; i < 100; ++i)
        (void)relief.pressed(start + i * 1s, 1024 * mib);
    EXPECT_EQ(relief.cut(start + 99s), 256 * mib);
}

}  // namespace
}  // namespace thermocline
