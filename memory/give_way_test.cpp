// SPDX-License-Identifier: Apache-2.0
#include "memory/give_way.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <optional>
#include <thread>

namespace thermocline::memory {
namespace {

using std::chrono_literals::operator""ms;

/// The processor that the test runs on has a second thread, which runs for as long as it likes once woken.
class GiveWayTest : public ::testing::Test {
  protected:
    void SetUp() override {
        giveWay_.emplace([this] { return wanted_.load() || wantedLooks_.fetch_sub(1) > 0; });
        ASSERT_EQ(::sched_getaffinity(0, sizeof before_, &before_), 0);
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(::sched_getcpu(), &one);
        ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
        other_ = std::thread([this] {
            woken_.wait(0);
            for (auto done = woken_.load(); done != over; done = woken_.load())
                if (::sched_getcpu() < 0) return;
        });
        while (!giveWay_->allowed(GiveWay::Clock::now()))
            std::this_thread::yield();
    }
    void TearDown() override {
        giveWay_.reset();
        woken_ = over;
        woken_.notify_all();
        other_.join();
        ::sched_setaffinity(0, sizeof before_, &before_);
    }
    /// Comes back while the other thread runs.
    void giveWayToIt() {
        giveWay_->during([this] {
            woken_ = 1;
            woken_.notify_all();
            // It is another's turn, as in the system call that wakes.
            while (giveWay_->rescues() == rescuesBefore_)
                ::sched_yield();
        });
        rescuesBefore_ = giveWay_->rescues();
        EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
    }

    static constexpr int over = 2;
    cpu_set_t before_{};
    std::atomic<int> woken_{0};
    std::atomic<bool> wanted_{false};
    std::atomic<int> wantedLooks_{0};  // or so often only
    std::uint64_t rescuesBefore_ = 0;
    std::optional<GiveWay> giveWay_;
    std::thread other_;
};

TEST_F(GiveWayTest, everythingElseGoesFirstMeanwhile) {
    bool idle = false;
    for (int i = 0; i < 1000 && !idle; ++i)  // the keeper may be there first
        giveWay_->during([&] { idle = ::sched_getscheduler(0) == SCHED_IDLE; });
    EXPECT_TRUE(idle);
    giveWay_->takeBack();
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
    giveWay_->takeBack();
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
}

TEST_F(GiveWayTest, itStaysAsideFromTurnToTurnUntilTheKeeperFindsNone) {
    bool idle = false;
    for (int i = 0; i < 1000 && !idle; ++i) {
        giveWay_->during([] {});
        idle = ::sched_getscheduler(0) == SCHED_IDLE;
    }
    EXPECT_TRUE(idle);
    while (::sched_getscheduler(0) != SCHED_OTHER)
        ::sched_yield();
    EXPECT_TRUE(giveWay_->allowed(GiveWay::Clock::now()));
    while (!giveWay_->keeperRests())
        std::this_thread::yield();
    const auto rescues = giveWay_->rescues();
    giveWay_->takeBack();  // it has its class already
    EXPECT_EQ(giveWay_->rescues(), rescues);
}

TEST_F(GiveWayTest, whoeverRunsTheKeeperBringsItBack) {
    for (int i = 0; i < 5; ++i)
        giveWayToIt();
    EXPECT_EQ(giveWay_->rescues(), 5U);
    EXPECT_TRUE(giveWay_->allowed(GiveWay::Clock::now())) << "nobody had to wait for it";
}

TEST_F(GiveWayTest, whereSomebodyHadToWaitItDoesNotGiveWayForEverLonger) {
    wanted_ = true;
    giveWayToIt();
    const auto first = GiveWay::Clock::now();
    EXPECT_FALSE(giveWay_->allowed(first));
    EXPECT_TRUE(giveWay_->allowed(first + 200ms));
    giveWayToIt();
    const auto second = GiveWay::Clock::now();
    EXPECT_FALSE(giveWay_->allowed(second + 200ms));
    EXPECT_TRUE(giveWay_->allowed(second + 400ms));
}

TEST_F(GiveWayTest, whoIsBeingTakenCareOfDidNotHaveToWait) {
    wantedLooks_ = 1;
    giveWayToIt();
    EXPECT_LE(wantedLooks_, 0);
    EXPECT_TRUE(giveWay_->allowed(GiveWay::Clock::now()));
}

TEST_F(GiveWayTest, theKeeperThatRestsIsToldOfTheNextTurn) {
    for (int i = 0; i < 3; ++i) {
        giveWayToIt();
        while (!giveWay_->keeperRests())
            std::this_thread::yield();
    }
    EXPECT_EQ(giveWay_->rescues(), 3U);
}

TEST_F(GiveWayTest, nobodyIsLeftAsideWithoutAKeeper) {
    bool idle = false;
    for (int i = 0; i < 1000 && !idle; ++i) {
        giveWay_->during([] {});
        idle = ::sched_getscheduler(0) == SCHED_IDLE;
    }
    EXPECT_TRUE(idle);
    giveWay_.reset();
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
}

TEST(GiveWay, whoHasAnotherClassKeepsIt) {
    std::thread([] {
        const sched_param none{};
        ASSERT_EQ(::sched_setscheduler(0, SCHED_BATCH, &none), 0);
        const GiveWay giveWay([] { return false; });
        EXPECT_FALSE(giveWay.allowed(GiveWay::Clock::now()));
        EXPECT_EQ(::sched_getscheduler(0), SCHED_BATCH);
    }).join();
}

}  // namespace
}  // namespace thermocline::memory
