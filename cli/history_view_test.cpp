// SPDX-License-Identifier: Apache-2.0
#include "cli/history_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline::cli {
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

std::vector<HistorySample> oneASecond(std::size_t count) {
    std::vector<HistorySample> samples(count);
    for (std::size_t i = 0; i < count; ++i) {
        samples[i].time = 1000 + i;
        samples[i].used = i;
        samples[i].faults = 1;
        samples[i].stallRatioMax = static_cast<double>(i) / 100;
    }
    return samples;
}

TEST(Condense, mergesNeighboursByTime) {
    const auto rows = condense(oneASecond(10), 5);
    ASSERT_EQ(rows.size(), 5U);
    EXPECT_EQ(rows[0].time, 1000U);
    EXPECT_EQ(rows[0].span, 2U);
    EXPECT_EQ(rows[4].time, 1008U);
    EXPECT_EQ(rows[4].used, 9U);  // 8.5, rounded
    EXPECT_EQ(rows[4].faults, 2U);
    EXPECT_EQ(rows[4].stallRatioMax, 0.09);
}

TEST(Condense, weighsBySpan) {
    std::vector<HistorySample> samples(2);
    samples[0].time = 0;
    samples[0].span = 60;
    samples[0].used = 100;
    samples[1].time = 60;
    samples[1].span = 20;
    samples[1].used = 500;
    const auto rows = condense(samples, 1);
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0].used, 200U);
    EXPECT_EQ(rows[0].span, 80U);
}

TEST(Condense, leavesFewSamplesAndGapsAlone) {
    EXPECT_EQ(condense(oneASecond(5), 5), oneASecond(5));
    EXPECT_EQ(condense(oneASecond(500), 0).size(), 500U);
    EXPECT_TRUE(condense({}, 5).empty());
    auto gap = oneASecond(4);
    gap[2].time += 1000;
    gap[3].time += 1000;
    const auto rows = condense(gap, 3);
    ASSERT_EQ(rows.size(), 2U);  // nothing is made up for the time between
    EXPECT_EQ(rows[1].time, 2002U);
    EXPECT_EQ(rows[1].span, 2U);
}

}  // namespace
}  // namespace thermocline::cli
