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

const HistorySample& at(const HistoryView& view, std::size_t column) {
    return view.samples.at(column).value();
}

std::chrono::sys_seconds time(std::int64_t seconds) {
    return std::chrono::sys_seconds(std::chrono::seconds(seconds));
}

/// Local time is that of Berlin, which has a summer time.
class ParseTime : public ::testing::Test {
  protected:
    ParseTime() {
        ::setenv("TZ", "Europe/Berlin", 1);
        ::tzset();
    }
    // 2026-11-24 02:30:00 UTC, 03:30 in Berlin
    const std::chrono::sys_seconds now = time(1795487400);
};

TEST_F(ParseTime, takesWhatJournalctlTakes) {
    EXPECT_EQ(parseTime("now", now).value(), now);
    EXPECT_EQ(parseTime("15m", now).value(), now - std::chrono::minutes(15));
    EXPECT_EQ(parseTime("-15m", now).value(), now - std::chrono::minutes(15));
    EXPECT_EQ(parseTime("03:00", now).value(), now - std::chrono::minutes(30));
    EXPECT_EQ(parseTime("03:29:59", now).value(), now - std::chrono::seconds(1));
    EXPECT_EQ(parseTime("today", now).value(), now - std::chrono::minutes(210));
    EXPECT_EQ(parseTime("yesterday", now).value(), now - std::chrono::hours(24) - std::chrono::minutes(210));
    EXPECT_EQ(parseTime("2026-11-24", now).value(), now - std::chrono::minutes(210));
    EXPECT_EQ(parseTime("2026-11-24 03:30", now).value(), now);
    EXPECT_EQ(parseTime("2026-07-01 02:00:00", now).value(), time(1782864000));  // in summer, UTC + 2
}

TEST_F(ParseTime, refusesTheRest) {
    for (const char* text :
         {"", "soon", "25:00", "2026-13-01", "2026-02-31", "2026-11-24 14:30 x", "0", "--1h"}) {
        const auto parsed = parseTime(text, now);
        ASSERT_FALSE(parsed) << text;
        EXPECT_EQ(parsed.error().code, ErrorCode::invalidArgument);
    }
}

TEST(FormatSpan, takesTheLargestUnitWithoutAFraction) {
    for (const char* text : {"1s", "90s", "5m", "90m", "1h", "36h", "2d", "1w"})
        EXPECT_EQ(formatSpan(parseSpan(text).value()), text);
    EXPECT_EQ(formatSpan(std::chrono::seconds(86400)), "1d");
}

}  // namespace
}  // namespace thermocline
