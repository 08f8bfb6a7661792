// SPDX-License-Identifier: Apache-2.0
#include "cli/history_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

namespace thermocline::cli {
namespace {

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

TEST(StepFor, isOneThatPeopleCountIn) {
    using std::chrono::seconds;
    EXPECT_EQ(stepFor(seconds(60), 60), seconds(1));
    EXPECT_EQ(stepFor(seconds(61), 60), seconds(2));
    EXPECT_EQ(stepFor(std::chrono::hours(1), 54), seconds(120));
    EXPECT_EQ(stepFor(std::chrono::hours(24), 54), seconds(1800));
    EXPECT_EQ(stepFor(std::chrono::hours(24 * 30), 1), std::chrono::hours(24 * 30));
    EXPECT_EQ(stepFor(std::chrono::hours(24 * 30), 20), std::chrono::hours(48));
}

TEST(HistoryView, mergesWhatBeganInAStep) {
    const auto view = historyView("web1", oneASecond(10), time(1000), time(1010), std::chrono::seconds(2));
    ASSERT_EQ(view.samples.size(), 5U);
    EXPECT_EQ(at(view, 0).time, 1000U);
    EXPECT_EQ(at(view, 0).span, 2U);
    EXPECT_EQ(at(view, 4).time, 1008U);
    EXPECT_EQ(at(view, 4).used, 9U);  // 8.5, rounded
    EXPECT_EQ(at(view, 4).faults, 2U);
    EXPECT_EQ(at(view, 4).stallRatioMax, 0.09);
}

TEST(HistoryView, weighsBySpan) {
    std::vector<HistorySample> samples(2);
    samples[0].time = 0;
    samples[0].span = 60;
    samples[0].used = 100;
    samples[1].time = 60;
    samples[1].span = 20;
    samples[1].used = 500;
    const auto view = historyView("web1", samples, time(0), time(100), std::chrono::seconds(200));
    ASSERT_EQ(view.samples.size(), 1U);
    EXPECT_EQ(at(view, 0).used, 200U);
    EXPECT_EQ(at(view, 0).span, 80U);
}

TEST(HistoryView, makesNothingUpForGapsAndCutsWhatIsOutside) {
    auto gap = oneASecond(4);
    gap[2].time += 4;
    gap[3].time += 4;
    const auto view = historyView("web1", gap, time(1001), time(1007), std::chrono::seconds(1));
    ASSERT_EQ(view.samples.size(), 6U);
    std::vector<bool> known;
    for (const auto& sample : view.samples)
        known.push_back(sample.has_value());
    EXPECT_EQ(known, (std::vector<bool>{true, false, false, false, false, true}));
    EXPECT_EQ(knownSamples(view).size(), 2U);
    EXPECT_TRUE(historyView("web1", {}, time(10), time(10), std::chrono::seconds(5)).samples.empty());
}

TEST(HistoryView, beginsAtAMultipleOfTheStep) {
    const auto view = historyView("web1", oneASecond(10), time(1003), time(1010), std::chrono::seconds(5));
    EXPECT_EQ(view.begin, 1000U);
    ASSERT_EQ(view.samples.size(), 2U);
    EXPECT_EQ(at(view, 0).faults, 5U);
}

std::vector<HistorySample> twoSamples() {
    std::vector<HistorySample> samples(2);
    samples[0].time = 1000;
    samples[0].resident = 2048;
    samples[0].frozen = 4096;
    samples[0].faults = 3;
    samples[0].stallNanoseconds = 500'000'000;
    samples[1].time = 1002;
    samples[1].resident = 1024;
    return samples;
}

TEST(HistoryText, hasALineForEachFigure) {
    const auto view = historyView("web1", twoSamples(), time(1000), time(1003), std::chrono::seconds(1));
    const auto text = historyText(view, Style(false));
    EXPECT_THAT(text, ::testing::HasSubstr("1 s a column"));
    EXPECT_THAT(text, ::testing::HasSubstr("resident  █ ▅  1.0 KiB  1.0 KiB  2.0 KiB"));
    EXPECT_THAT(text, ::testing::HasSubstr("frozen    █ ▁"));
    EXPECT_THAT(text, ::testing::ContainsRegex("stall     █ ▁ +0.0 % +0.0 % +50.0 %"));
    EXPECT_THAT(text, ::testing::ContainsRegex("faults    █ ▁ +0/s +0/s +3.0/s"));
}

TEST(HistoryCsv, hasANameForEachColumn) {
    const auto csv = historyCsv(twoSamples());
    const auto header = csv.substr(0, csv.find('\n'));
    EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 3);
    std::vector<std::string> names;
    std::size_t residentColumn = 0;
    for (std::size_t begin = 0; begin <= header.size();) {
        const auto end = std::min(header.find(',', begin), header.size());
        if (header.substr(begin, end - begin) == "resident_bytes") residentColumn = names.size();
        names.push_back(header.substr(begin, end - begin));
        begin = end + 1;
    }
    EXPECT_TRUE(header.starts_with("time,span,"));
    EXPECT_EQ(names.size(), toJson(HistorySample{}).size());
    std::string row = csv.substr(header.size() + 1);
    for (std::size_t i = 0; i < residentColumn; ++i)
        row = row.substr(row.find(',') + 1);
    EXPECT_EQ(row.substr(0, row.find(',')), "2048");
}

}  // namespace
}  // namespace thermocline::cli
