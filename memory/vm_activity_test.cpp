// SPDX-License-Identifier: Apache-2.0

// What becomes of a real process's memory when it is being copied, or paused for long.

#include <gtest/gtest.h>

#include <chrono>

#include "memory/testing/subject_process.h"
#include "memory/testing/vm_fixture.h"

namespace thermocline::memory {
namespace {

using namespace std::chrono_literals;
using testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;

class VmActivityTest : public testing::VmFixture, public ::testing::WithParamInterface<bool> {
  protected:
    void SetUp() override {
        ASSERT_EQ(subject_.command("fill 8 plain"), "ok");
        attach(optionsFor(subject_));
    }
    void TearDown() override {
        EXPECT_TRUE(vm_ == nullptr || vm_->detach());
        VmFixture::TearDown();
        EXPECT_EQ(subject_.command("verify"), "ok 16384");
    }
    static std::uint64_t inMemory(const Status& status) { return status.residentBytes + status.stagedBytes; }

    SubjectProcess subject_{64 * mib, GetParam()};
};

TEST_P(VmActivityTest, nothingIsTakenWhileItIsCopiedOutAndTheLimitWaits) {
    ASSERT_TRUE(vm_->setLimit(48 * mib));
    ASSERT_TRUE(eventually([](const Status& status) { return status.limitMet; }));
    ASSERT_TRUE(vm_->setActivity(Activity::copiedOut));
    ASSERT_TRUE(eventually([](const Status& status) { return status.residentBytes == 64 * mib; }));
    const auto copied = vm_->status();
    EXPECT_FALSE(copied.limitMet);
    EXPECT_NE(copied.limitNote.find("is being read"), std::string::npos) << copied.limitNote;
    EXPECT_EQ(copied.limitBytes, 48 * mib);
    EXPECT_EQ(subject_.command("verify"), "ok 16384");
    EXPECT_EQ(vm_->status().evictedPages, copied.evictedPages);
    // A limit that is set meanwhile waits, too.
    ASSERT_TRUE(vm_->setLimit(44 * mib));
    ASSERT_TRUE(eventually([](const Status& status) { return !status.limitNote.empty(); }));
    EXPECT_EQ(vm_->status().residentBytes, 64 * mib);
    ASSERT_TRUE(vm_->setActivity(Activity::running));
    ASSERT_TRUE(eventually([](const Status& status) { return status.limitMet; }));
    EXPECT_EQ(vm_->status().limitNote, "");
    EXPECT_EQ(subject_.command("verify"), "ok 16384");
}

TEST_P(VmActivityTest, allOfItGoesWhileItIsPausedAndComesBackWithoutALook) {
    ASSERT_TRUE(vm_->setActivity(Activity::paused));
    ASSERT_TRUE(eventually([](const Status& status) { return inMemory(status) < 2 * mib; }));
    EXPECT_EQ(vm_->status().activity, "paused");
    // Who is not paused at all, or has a device that looks, finds every byte; what came back goes again.
    EXPECT_EQ(subject_.command("verify"), "ok 16384");
    ASSERT_TRUE(eventually([](const Status& status) { return inMemory(status) < 4 * mib; }));
    const auto faults = vm_->status().faults;
    ASSERT_TRUE(vm_->setActivity(Activity::running));
    ASSERT_TRUE(eventually([](const Status& status) { return status.residentBytes == 64 * mib; }));
    EXPECT_EQ(vm_->status().faults, faults);
}

TEST_P(VmActivityTest, whatComesBackStaysWithinTheLimit) {
    ASSERT_TRUE(vm_->setLimit(48 * mib));
    ASSERT_TRUE(eventually([](const Status& status) { return status.limitMet; }));
    ASSERT_EQ(subject_.command("verify"), "ok 16384");
    // Reclaim is through: until then there is more than what comes back has room for. Told of a limit, it
    // goes on until there is headroom, else it may rest before.
    ASSERT_TRUE(vm_->setLimit(48 * mib));
    ASSERT_TRUE(eventually([](const Status& status) {
        return status.usedBytes + HardLimitPolicy(48 * mib).headroom() <= 48 * mib;
    }));
    const auto before = inMemory(vm_->status());
    ASSERT_TRUE(vm_->setActivity(Activity::paused));
    ASSERT_TRUE(eventually([](const Status& status) { return inMemory(status) < 2 * mib; }));
    ASSERT_TRUE(vm_->setActivity(Activity::running));
    ASSERT_TRUE(eventually([&](const Status& status) { return inMemory(status) > before * 3 / 4; }));
    EXPECT_LE(vm_->status().usedBytes, 48 * mib);
    EXPECT_EQ(subject_.command("verify"), "ok 16384");
}

TEST_P(VmActivityTest, pausesThatAreInterruptedAgainAndAgainLoseNothing) {
    ASSERT_TRUE(vm_->setLimit(48 * mib));
    constexpr std::array activities{Activity::paused, Activity::copiedOut, Activity::paused,
                                    Activity::running};
    for (int round = 0; round < 24; ++round) {
        ASSERT_TRUE(vm_->setActivity(activities.at(round % activities.size())));
        EXPECT_EQ(subject_.command("write 0 2048"), "ok");
    }
    EXPECT_EQ(subject_.command("verify"), "ok 16384");
    ASSERT_TRUE(vm_->setActivity(Activity::running));
    ASSERT_TRUE(eventually([](const Status& status) { return status.limitMet; }));
}

INSTANTIATE_TEST_SUITE_P(Memory, VmActivityTest, ::testing::Bool(),
                         [](const auto& suite) { return suite.param ? "Huge" : "Small"; });

}  // namespace
}  // namespace thermocline::memory
