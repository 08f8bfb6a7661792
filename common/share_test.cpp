// SPDX-License-Identifier: Apache-2.0
#include "common/share.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(ParseShare, takesWhatPeopleWrite) {
    EXPECT_DOUBLE_EQ(parseShare("0.5%").value(), 0.005);
    EXPECT_DOUBLE_EQ(parseShare("0.5 %").value(), 0.005);
    EXPECT_DOUBLE_EQ(parseShare("0.005").value(), 0.005);
    EXPECT_DOUBLE_EQ(parseShare("1%").value(), 0.01);
    EXPECT_DOUBLE_EQ(parseShare("5e-3").value(), 0.005);
    EXPECT_EQ(parseShare("0").value(), 0);
    // Out of any range, but shares: others say so.
    EXPECT_EQ(parseShare("7").value(), 7);
    EXPECT_EQ(parseShare("-50%").value(), -0.5);
}

TEST(ParseShare, refusesTheRest) {
    for (const char* text :
         {"", "%", "half", "0.5%%", "0.5x", "0,5%", "0.5 ", "0.5  %", "nan", "inf%", "1e999", " 1", "+1"}) {
        const auto share = parseShare(text);
        ASSERT_FALSE(share) << text;
        EXPECT_EQ(share.error().code, ErrorCode::invalidArgument);
        EXPECT_THAT(share.error().message, ::testing::HasSubstr("write it like 0.5% or 0.005"));
    }
}

TEST(FormatShare, hasTheDigitsThatItTakes) {
    EXPECT_EQ(formatShare(0.005), "0.5 %");
    EXPECT_EQ(formatShare(0.0001), "0.01 %");
    EXPECT_EQ(formatShare(0.5), "50 %");
    EXPECT_EQ(formatShare(0.07), "7 %");
}

}  // namespace
}  // namespace thermocline
