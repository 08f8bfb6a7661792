// SPDX-License-Identifier: Apache-2.0
#include "common/time_span.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(ParseSpan, takesWhatPeopleWrite) {
    EXPECT_EQ(parseSpan("90").value(), std::chrono::seconds(90));
    EXPECT_EQ(parseSpan("90s").value(), std::chrono::seconds(90));
    EXPECT_EQ(parseSpan("15m").value(), std::chrono::minutes(15));
    EXPECT_EQ(parseSpan("1h").value(), std::chrono::hours(1));
    EXPECT_EQ(parseSpan("2d").value(), std::chrono::hours(48));
    EXPECT_EQ(parseSpan("1w").value(), std::chrono::hours(168));
    EXPECT_EQ(parseSpan("4294967295w").value(), std::chrono::hours(168) * 4294967295);
}

TEST(ParseSpan, refusesTheRest) {
    for (const char* text : {"", "h", "0", "-1h", "1.5h", "1 h", "1y", "1hh", "4294967296", "0x10"}) {
        const auto span = parseSpan(text);
        ASSERT_FALSE(span) << text;
        EXPECT_EQ(span.error().code, ErrorCode::invalidArgument);
    }
}

TEST(FormatSpan, takesTheLargestUnitWithoutAFraction) {
    for (const char* text : {"1s", "90s", "5m", "90m", "1h", "36h", "2d", "1w"})
        EXPECT_EQ(formatSpan(parseSpan(text).value()), text);
    EXPECT_EQ(formatSpan(std::chrono::seconds(86400)), "1d");
}

}  // namespace
}  // namespace thermocline
