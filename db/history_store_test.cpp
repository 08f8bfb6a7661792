// SPDX-License-Identifier: Apache-2.0
#include "db/history_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/testing/temporary_directory.h"

namespace thermocline::db {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using std::chrono::sys_seconds;

constexpr sys_seconds minuteStart{seconds(1'700'000'040)};  // a multiple of 60
static_assert(minuteStart.time_since_epoch().count() % 60 == 0);

class HistoryStoreTest : public ::testing::Test {
  protected:
    void add(const std::string& uuid, const Sample& sample) {
        const auto added = history_.add({{uuid, sample}});
        ASSERT_TRUE(added) << added.error().message;
    }
    std::vector<Sample> all(const std::string& uuid, Resolution resolution) {
        return history_.query(uuid, {}, sys_seconds(hours(1'000'000)), resolution).value();
    }

    thermocline::testing::TemporaryDirectory directory_;
    Database database_ = Database::open(directory_.path() / "thermocline.db").value();
    sys_seconds now_ = minuteStart;
    HistoryStore history_{database_, Retention{hours(1), hours(24 * 30)}, [this] { return now_; }};
};

Sample sampleAt(sys_seconds time, double level, std::uint64_t counter, double stall) {
    Sample sample;
    sample.time = time;
    sample.memory = level;
    sample.resident = level + 1;
    sample.staged = level + 2;
    sample.cold = level + 3;
    sample.store = level + 4;
    sample.metadata = level + 5;
    sample.used = level + 6;
    sample.limit = level + 7;
    sample.frozen = level + 8;
    sample.faults = counter;
    sample.stagedFaults = counter + 1;
    sample.coldFaults = counter + 2;
    sample.zeroFaults = counter + 3;
    sample.evictedPages = counter + 4;
    sample.stallNanoseconds = counter + 5;
    sample.frozenFaults = counter + 6;
    sample.stallRatioMax = stall;
    return sample;
}

TEST_F(HistoryStoreTest, givesBackWhatWasAdded) {
    const Sample first = sampleAt(minuteStart, 1e12 + 1, UINT64_MAX - 9, 0.25);
    const Sample second = sampleAt(minuteStart + seconds(1), 4096, 2, 0);
    add("aaaa", second);
    add("aaaa", first);
    add("bbbb", sampleAt(minuteStart, 1, 1, 1));
    EXPECT_THAT(all("aaaa", Resolution::raw), ::testing::ElementsAre(first, second));
    EXPECT_THAT(all("cccc", Resolution::raw), ::testing::IsEmpty());
}

TEST_F(HistoryStoreTest, rangeIsHalfOpen) {
    for (int i = 0; i < 5; ++i)
        add("aaaa", sampleAt(minuteStart + seconds(i), i, 0, 0));
    const auto samples =
        history_.query("aaaa", minuteStart + seconds(1), minuteStart + seconds(3), Resolution::raw).value();
    ASSERT_EQ(samples.size(), 2U);
    EXPECT_EQ(samples.front().memory, 1);
    EXPECT_EQ(samples.back().memory, 2);
}

TEST_F(HistoryStoreTest, rollsUpAMinuteToExactFigures) {
    // Levels 100, 200, 600: average 300. Counters 1, 2, 3: sum 6. Highest stall 0.5.
    add("aaaa", sampleAt(minuteStart, 100, 1, 0.125));
    add("aaaa", sampleAt(minuteStart + seconds(30), 200, 2, 0.5));
    add("aaaa", sampleAt(minuteStart + seconds(59), 600, 3, 0.25));
    add("aaaa", sampleAt(minuteStart + seconds(60), 9999, 99, 0.9));  // the next minute
    add("bbbb", sampleAt(minuteStart + seconds(59), 8, 4, 0));
    now_ = minuteStart + seconds(60);
    ASSERT_TRUE(history_.maintain());

    Sample expected = sampleAt(minuteStart, 300, 6, 0.5);
    expected.span = seconds(60);
    expected.stagedFaults = 2 + 3 + 4;
    expected.coldFaults = 3 + 4 + 5;
    expected.zeroFaults = 4 + 5 + 6;
    expected.evictedPages = 5 + 6 + 7;
    expected.stallNanoseconds = 6 + 7 + 8;
    expected.frozenFaults = 7 + 8 + 9;
    EXPECT_THAT(all("aaaa", Resolution::minute), ::testing::ElementsAre(expected));
    ASSERT_EQ(all("bbbb", Resolution::minute).size(), 1U);
    EXPECT_EQ(all("bbbb", Resolution::minute).front().faults, 4U);
    EXPECT_EQ(all("aaaa", Resolution::raw).size(), 4U);
}

TEST_F(HistoryStoreTest, aClockThatJumpsSpoilsNothing) {
    add("aaaa", sampleAt(minuteStart, 100, 1, 0));
    now_ = minuteStart + seconds(60);
    ASSERT_TRUE(history_.maintain());
    // Back by ten minutes: of a second that comes twice the later sample counts.
    now_ = minuteStart - minutes(10);
    add("aaaa", sampleAt(now_, 200, 2, 0));
    ASSERT_TRUE(history_.maintain());
    now_ = minuteStart;
    add("aaaa", sampleAt(now_, 300, 4, 0));
    now_ = minuteStart + seconds(120);
    ASSERT_TRUE(history_.maintain());
    ASSERT_EQ(all("aaaa", Resolution::raw).size(), 2U);
    EXPECT_EQ(all("aaaa", Resolution::raw).back().faults, 4U);
    std::uint64_t faults = 0;
    for (const auto& sample : all("aaaa", Resolution::minute))
        faults += sample.faults;
    EXPECT_LE(faults, 7U) << "nothing is counted twice";
    EXPECT_GE(faults, 1U);
    // Years ahead: what is too old then goes, and what comes is kept.
    now_ = minuteStart + hours(24 * 3000);
    add("aaaa", sampleAt(now_, 400, 8, 0));
    ASSERT_TRUE(history_.maintain());
    ASSERT_EQ(all("aaaa", Resolution::raw).size(), 1U);
    EXPECT_EQ(all("aaaa", Resolution::raw).front().faults, 8U);
    // And back again: it is younger than now, and stays.
    now_ = minuteStart + minutes(3);
    add("aaaa", sampleAt(now_, 500, 16, 0));
    ASSERT_TRUE(history_.maintain());
    EXPECT_EQ(all("aaaa", Resolution::raw).size(), 2U);
}

TEST_F(HistoryStoreTest, aMinuteThatIsNotOverIsNotRolledUp) {
    add("aaaa", sampleAt(minuteStart, 1, 1, 0));
    now_ = minuteStart + seconds(59);
    ASSERT_TRUE(history_.maintain());
    EXPECT_TRUE(all("aaaa", Resolution::minute).empty());
    add("aaaa", sampleAt(minuteStart + seconds(59), 3, 1, 0));
    now_ = minuteStart + seconds(61);
    ASSERT_TRUE(history_.maintain());
    ASSERT_TRUE(history_.maintain());
    ASSERT_EQ(all("aaaa", Resolution::minute).size(), 1U);
    EXPECT_EQ(all("aaaa", Resolution::minute).front().memory, 2);
    EXPECT_EQ(all("aaaa", Resolution::minute).front().faults, 2U);
}

TEST_F(HistoryStoreTest, minutesMissedWhileTheDaemonWasAwayAreMadeLater) {
    for (int minute = 0; minute < 3; ++minute)
        add("aaaa", sampleAt(minuteStart + minutes(minute), 1, 1, 0));
    now_ = minuteStart + hours(5);  // beyond the raw retention: rolled up before it is forgotten
    ASSERT_TRUE(history_.maintain());
    EXPECT_EQ(all("aaaa", Resolution::minute).size(), 3U);
    EXPECT_TRUE(all("aaaa", Resolution::raw).empty());
}

TEST_F(HistoryStoreTest, aClockSetBackDoesNotSpoilMinutesThatExist) {
    add("aaaa", sampleAt(minuteStart, 10, 1, 0));
    now_ = minuteStart + minutes(2);
    ASSERT_TRUE(history_.maintain());
    now_ = minuteStart - minutes(10);
    ASSERT_TRUE(history_.maintain());
    add("aaaa", sampleAt(minuteStart + seconds(1), 1000, 1, 0));
    now_ = minuteStart + minutes(3);
    ASSERT_TRUE(history_.maintain());
    ASSERT_EQ(all("aaaa", Resolution::minute).size(), 1U);
    EXPECT_EQ(all("aaaa", Resolution::minute).front().memory, 10);
}

TEST_F(HistoryStoreTest, forgetsAfterTheRetentionExactly) {
    add("aaaa", sampleAt(minuteStart, 1, 1, 0));
    now_ = minuteStart + hours(1);
    ASSERT_TRUE(history_.maintain());
    EXPECT_EQ(all("aaaa", Resolution::raw).size(), 1U);
    now_ += seconds(1);
    ASSERT_TRUE(history_.maintain());
    EXPECT_EQ(all("aaaa", Resolution::raw).size(), 0U);
    now_ = minuteStart + hours(24 * 30);
    ASSERT_TRUE(history_.maintain());
    EXPECT_EQ(all("aaaa", Resolution::minute).size(), 1U);
    now_ += seconds(1);
    ASSERT_TRUE(history_.maintain());
    EXPECT_EQ(all("aaaa", Resolution::minute).size(), 0U);
}

TEST_F(HistoryStoreTest, automaticTakesTheFinestThatCoversTheStart) {
    add("aaaa", sampleAt(minuteStart, 1, 1, 0));
    now_ = minuteStart + minutes(30);
    ASSERT_TRUE(history_.maintain());
    EXPECT_EQ(history_.query("aaaa", now_ - hours(1), now_, Resolution::automatic).value().at(0).span,
              seconds(1));
    EXPECT_EQ(history_.query("aaaa", now_ - hours(2), now_, Resolution::automatic).value().at(0).span,
              seconds(60));
}

TEST_F(HistoryStoreTest, historyGoesWithItsDomain) {
    add("aaaa", sampleAt(minuteStart, 1, 1, 0));
    ASSERT_TRUE(database_.execute("DELETE FROM domain"));
    auto count = database_.prepare("SELECT count(*) FROM history_raw");
    ASSERT_TRUE(count && count->step().value());
    EXPECT_EQ(count->column(0), 0);
}

}  // namespace
}  // namespace thermocline::db
