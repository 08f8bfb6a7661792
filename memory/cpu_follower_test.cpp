// SPDX-License-Identifier: Apache-2.0
#include "memory/cpu_follower.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <thread>
#include <vector>

namespace thermocline::memory {
namespace {

constexpr pid_t guest = 1234;

class CpuFollowerTest : public ::testing::Test {
  protected:
    /// As the fault handler does, for `faults` of them; returns how often it looked.
    unsigned serve(unsigned faults) {
        unsigned looks = 0;
        for (unsigned i = 0; i < faults; ++i) {
            follower_.served();
            if (!follower_.lookIsDue()) continue;
            ++looks;
            follower_.follow(guest);
            wander();
        }
        return looks;
    }
    void wander() {
        if (wanders_ && at_) at_ = 1 - *at_;
    }

    std::optional<int> at_ = 1;
    bool wanders_ = false;
    bool mayMove_ = true;
    std::vector<int> moves_;
    CpuFollower follower_{CpuFollower::Seams{[this](pid_t thread) {
                                                 EXPECT_EQ(thread, guest);
                                                 return at_;
                                             },
                                             [this](int cpu) {
                                                 if (mayMove_) moves_.push_back(cpu);
                                                 return mayMove_;
                                             }}};
};

TEST_F(CpuFollowerTest, goesWhereTheGuestWasSeenTwice) {
    EXPECT_EQ(follower_.cpu(), -1);
    follower_.follow(guest);
    EXPECT_TRUE(moves_.empty());
    follower_.follow(guest);
    EXPECT_EQ(moves_, std::vector{1});
    EXPECT_EQ(follower_.cpu(), 1);
    follower_.follow(guest);
    EXPECT_EQ(moves_.size(), 1U) << "it is there";
}

TEST_F(CpuFollowerTest, looksSeldomWhereTheGuestIsHere) {
    serve(10);
    ASSERT_EQ(follower_.cpu(), 1);
    serve(200);
    EXPECT_LE(serve(10 * CpuFollower::mostBetweenLooks), 10U);
    at_ = 0;
    serve(3 * CpuFollower::mostBetweenLooks);
    EXPECT_EQ(follower_.cpu(), 0) << "but it does";
}

TEST_F(CpuFollowerTest, doesNotFollowWhoeverIsElsewhereEachTime) {
    wanders_ = true;
    serve(1000);
    EXPECT_TRUE(moves_.empty()) << "never twice at the same place";
}

TEST_F(CpuFollowerTest, triesTheLessTheMoreOftenItWasInVain) {
    serve(2);
    ASSERT_EQ(moves_.size(), 1U);
    // The guest leaves each time that it is followed.
    const auto movesIn = [&](unsigned faults) {
        const auto before = moves_.size();
        for (unsigned i = 0; i < faults; ++i) {
            if (follower_.cpu() == at_) at_ = 1 - *at_;
            serve(1);
        }
        return moves_.size() - before;
    };
    EXPECT_GE(movesIn(100), 2U);
    EXPECT_LE(movesIn(1280), 11U);
}

TEST_F(CpuFollowerTest, whoCannotBeFoundOrFollowedChangesNothing) {
    at_ = std::nullopt;
    serve(100);
    EXPECT_EQ(follower_.cpu(), -1);
    at_ = 1;
    mayMove_ = false;
    serve(500);
    EXPECT_EQ(follower_.cpu(), -1);
    mayMove_ = true;
    serve(2 * CpuFollower::mostBetweenLooks);
    EXPECT_EQ(follower_.cpu(), 1);
}

TEST_F(CpuFollowerTest, staysWithTheGuestWhereItMayHaveMovedAndOnlyThere) {
    ASSERT_TRUE(follower_.stayIsDue()) << "nothing is known yet";
    follower_.stay(guest);
    EXPECT_EQ(moves_, std::vector{1}) << "at once";
    for (int i = 0; i < 100; ++i)
        EXPECT_FALSE(follower_.stayIsDue());
    at_ = 0;
    follower_.mayHaveMoved(true);
    ASSERT_TRUE(follower_.stayIsDue());
    follower_.stay(guest);
    EXPECT_EQ(follower_.cpu(), 0);
}

TEST_F(CpuFollowerTest, givesStayingUpForAWhileWhereThreadsAreOnSeveralProcessors) {
    unsigned looks = 0;
    for (unsigned i = 0; i < 1000; ++i) {
        follower_.mayHaveMoved(true);
        if (!follower_.stayIsDue()) continue;
        ++looks;
        at_ = follower_.cpu() == 1 ? 0 : 1;
        follower_.stay(guest);
    }
    EXPECT_LE(looks, 1000 / CpuFollower::mostBetweenLooks + 10);
    // One thread alone again: it soon stays as before.
    at_ = follower_.cpu();
    for (unsigned i = 0; i < 2 * CpuFollower::mostBetweenLooks; ++i)
        if (follower_.stayIsDue()) follower_.stay(guest);
    at_ = 1 - *at_;
    follower_.mayHaveMoved(true);
    ASSERT_TRUE(follower_.stayIsDue());
    follower_.stay(guest);
    EXPECT_EQ(follower_.cpu(), *at_);
}

TEST(CpuFollowerOfThreads, goesToWhereTheyRun) {
    int cpu = -1;
    cpu_set_t allowed;
    ASSERT_EQ(::sched_getaffinity(0, sizeof allowed, &allowed), 0);
    std::thread([&] {
        CpuFollower follower;
        follower.follow(::gettid());
        follower.follow(::gettid());
        cpu = follower.cpu();
        cpu_set_t now;
        ASSERT_EQ(::sched_getaffinity(0, sizeof now, &now), 0);
        EXPECT_EQ(CPU_COUNT(&now), 1);
        EXPECT_TRUE(CPU_ISSET(cpu, &now));
    }).join();
    EXPECT_TRUE(cpu >= 0 && CPU_ISSET(cpu, &allowed));
}

}  // namespace
}  // namespace thermocline::memory
