// SPDX-License-Identifier: Apache-2.0
#include "daemon/history_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/testing/temporary_directory.h"

namespace thermocline {
namespace {

using namespace std::chrono_literals;

class HistoryRecorderTest : public ::testing::Test {
  protected:
    std::vector<db::Sample> samples(db::Resolution resolution = db::Resolution::raw) {
        return store_.query("aaaa", {}, now_ + 1h, resolution).value();
    }
    HistoryRecorder::Figures& vm() { return figures_.at(0); }

    thermocline::testing::TemporaryDirectory directory_;
    EventLoop loop_;
    db::Database database_ = db::Database::open(directory_.path() / "thermocline.db").value();
    std::chrono::sys_seconds now_{std::chrono::seconds(1'700'000'040)};
    db::Clock clock_ = [this] { return now_; };
    db::HistoryStore store_{database_, {}, clock_};
    std::vector<HistoryRecorder::Figures> figures_{{"aaaa", {}}};
    HistoryRecorder recorder_{loop_, store_, [this] { return figures_; }, clock_};
};

TEST_F(HistoryRecorderTest, writesLevelsAsTheyAreAndCountersAsWhatWasAdded) {
    vm().status.faults = 1000;  // counted before this daemon looked
    vm().status.residentBytes = 5;
    recorder_.tick();
    now_ += 1s;
    vm().status.faults = 1007;
    vm().status.stallNanoseconds = 33;
    vm().status.stallRatio = 0.5;
    vm().status.residentBytes = 6;
    vm().status.limitBytes = 8;
    recorder_.tick();
    const auto written = samples();
    ASSERT_EQ(written.size(), 2U);
    EXPECT_EQ(written[0].faults, 0U);
    EXPECT_EQ(written[0].resident, 5);
    EXPECT_EQ(written[1].time, now_);
    EXPECT_EQ(written[1].faults, 7U);
    EXPECT_EQ(written[1].stallNanoseconds, 33U);
    EXPECT_EQ(written[1].stallRatioMax, 0.5);
    EXPECT_EQ(written[1].resident, 6);
    EXPECT_EQ(written[1].limit, 8);
}

TEST_F(HistoryRecorderTest, losesNothingWhenTwoTurnsFallIntoOneSecond) {
    recorder_.tick();
    now_ += 1s;
    vm().status.faults = 5;
    recorder_.tick();
    vm().status.faults = 9;
    recorder_.tick();  // the same second again
    now_ += 1s;
    vm().status.faults = 10;
    recorder_.tick();
    const auto written = samples();
    ASSERT_EQ(written.size(), 3U);
    EXPECT_EQ(written[1].faults, 5U);
    EXPECT_EQ(written[2].faults, 5U);
}

TEST_F(HistoryRecorderTest, countersBeginAgainWithANewAttach) {
    vm().status.faults = 100;
    recorder_.tick();
    now_ += 1s;
    vm().status.faults = 3;
    recorder_.tick();
    EXPECT_EQ(samples().at(1).faults, 3U);
    figures_.clear();
    now_ += 1s;
    recorder_.tick();
    EXPECT_EQ(samples().size(), 2U);
}

TEST_F(HistoryRecorderTest, rollsUpEachMinute) {
    for (int second = 0; second < 130; ++second) {
        vm().status.faults += 2;
        recorder_.tick();
        now_ += 1s;
    }
    const auto minutes = samples(db::Resolution::minute);
    ASSERT_GE(minutes.size(), 1U);
    EXPECT_EQ(minutes[0].faults, 59U * 2);  // the first sample is the base
}

TEST_F(HistoryRecorderTest, goesOnWhileTheDatabaseFails) {
    ASSERT_TRUE(database_.execute("PRAGMA query_only = ON"));
    recorder_.tick();
    now_ += 1s;
    recorder_.tick();
    EXPECT_TRUE(samples().empty());
    ASSERT_TRUE(database_.execute("PRAGMA query_only = OFF"));
    now_ += 1s;
    recorder_.tick();
    EXPECT_EQ(samples().size(), 1U);
}

}  // namespace
}  // namespace thermocline
