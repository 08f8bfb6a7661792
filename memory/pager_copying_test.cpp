// SPDX-License-Identifier: Apache-2.0

// What can happen between the copy of a page and its end in guest RAM, forced on the real kernel: the fault
// thread starts only once the others have got there.

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <future>
#include <utility>

#include "memory/testing/awaiting.h"
#include "memory/testing/disk_file.h"
#include "memory/testing/pager_rig.h"
#include "memory/testing/subject_process.h"

namespace thermocline::memory {
namespace {

using testing::awaitBlocked;
using testing::DiskFile;
using testing::PagerRig;
using testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;
constexpr auto pageFault = "-1";

class PagerCopying : public ::testing::Test {
  protected:
    PagerCopying() {
        EXPECT_EQ(subject_.command("fill 1 plain"), "ok");
        rig_.emplace(subject_, std::nullopt, Mechanism::copy);
        rig_->registerGuest();
    }
    /// Returns once the first pages (32) are copied and being dropped: the agent waits for its event to be
    /// read.
    std::future<Step> stageUntilTheDrop() {
        auto staging = std::async(std::launch::async,
                                  [this] { return rig_->pager().stage(0, Pager::HotBlocks::take, 32); });
        awaitBlocked(subject_.pid(), std::to_string(SYS_madvise));
        return staging;
    }

    SubjectProcess subject_{8 * mib, false};
    std::optional<PagerRig> rig_;
};

TEST_F(PagerCopying, whoWritesToAPageThatIsBeingDroppedWaitsAndWritesIntoTheOneThatComesBack) {
    auto staging = stageUntilTheDrop();
    ASSERT_EQ(subject_.command("start-write 7"), "ok");
    awaitBlocked(subject_.pid(), pageFault);
    rig_->startFaultHandler();
    EXPECT_EQ(staging.get(), Step::done);
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerCopying, whatTheGuestGivesUpWhileWeDropItIsZeros) {
    auto staging = stageUntilTheDrop();
    ASSERT_EQ(subject_.command("start-discard 20 40"), "ok");  // 12 of ours, and 28 of others
    awaitBlocked(subject_.pid(), std::to_string(SYS_madvise), 2);
    rig_->startFaultHandler();
    EXPECT_EQ(staging.get(), Step::done);
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
    EXPECT_EQ(rig_->pager().stagedPages(0).count(), 0U) << "it was all touched";
}

TEST_F(PagerCopying, whatTheGuestGivesUpAndWritesAnewIsNotTakenForTheOld) {
    auto staging = stageUntilTheDrop();
    ASSERT_EQ(subject_.command("start-discard 20 40"), "ok");
    awaitBlocked(subject_.pid(), std::to_string(SYS_madvise), 2);
    ASSERT_EQ(subject_.command("start-write 7"), "ok");
    awaitBlocked(subject_.pid(), pageFault);
    rig_->startFaultHandler();
    EXPECT_EQ(staging.get(), Step::done);
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(subject_.command("write 25 1"), "ok");
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerCopying, nothingIsCopiedWhileADeviceMayWriteToIt) {
    const DiskFile file;
    rig_->startFaultHandler();
    ASSERT_EQ(subject_.command("read-directly " + file.path() + " 1 16"), "ok");
    EXPECT_EQ(rig_->pager().stage(0, Pager::HotBlocks::take), Step::pinned);
    EXPECT_EQ(rig_->pager().stagedPages(0).count(), 0U);
    EXPECT_EQ(subject_.command("write 100 10"), "ok") << "they are not left write-protected";
    EXPECT_TRUE(subject_.command("stop").starts_with("ok "));  // and the file closed
    EXPECT_EQ(rig_->pager().stage(0, Pager::HotBlocks::take), Step::done);
    EXPECT_EQ(rig_->pager().stagedPages(0).count(), pagesPerBlock);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerCopying, nothingIsCopiedWhilePagesArePinnedForLong) {
    rig_->startFaultHandler();
    const auto pinned = subject_.command("pin 1024 16");
    ASSERT_TRUE(pinned.starts_with("ok ")) << pinned;
    EXPECT_EQ(rig_->pager().stage(0, Pager::HotBlocks::take), Step::pinned);
    EXPECT_EQ(subject_.command("unpin " + pinned.substr(3)), "ok");
    while (rig_->pager().stage(0, Pager::HotBlocks::take) == Step::pinned) {
        // The kernel unpins when it comes to it.
    }
    EXPECT_EQ(rig_->pager().stagedPages(0).count(), pagesPerBlock);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

}  // namespace
}  // namespace thermocline::memory
