// SPDX-License-Identifier: Apache-2.0

// Shared guest RAM on the real kernel: what can happen while a page is unmapped, staged or punched out of its
// file, each forced.

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <array>
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
using testing::SubjectMemory;
using testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;
constexpr std::uint64_t pages = 8 * mib / pageBytes;
constexpr auto pageFault = "-1";

class PagerUnmapping : public ::testing::Test {
  protected:
    PagerUnmapping() { EXPECT_EQ(subject_.command("fill 1 plain"), "ok"); }
    void attach() {
        rig_.emplace(subject_, std::nullopt, Mechanism::unmap);
        rig_->registerGuest();
    }
    /// All pages of the first block on their way: the agent waits for its event to be read.
    std::future<Step> stageUntilTheUnmapping() {
        auto staging = std::async(std::launch::async,
                                  [this] { return rig_->pager().stage(0, Pager::HotBlocks::take, 128); });
        awaitBlocked(subject_.pid(), std::to_string(SYS_madvise));
        return staging;
    }
    void attachAndMakeCold() {
        attach();
        rig_->startFaultHandler();
        ASSERT_EQ(stageEveryPage(), pages);
        ASSERT_EQ(rig_->evictAll(), pages);
        EXPECT_EQ(pagesInFile(), 0U) << "cold pages still take memory";
    }
    /// Whatever their heat. Whoever was woken by a fault that is still being counted is counted afterwards.
    std::uint64_t stageEveryPage() {
        std::uint64_t staged = 0;
        for (BlockNumber block = 0; block < rig_->pager().pages().blocks(); ++block) {
            (void)rig_->pager().stage(block, Pager::HotBlocks::take);
            staged += rig_->pager().stagedPages(block).count();
        }
        return staged;
    }
    /// As seen from outside: a descriptor of the subject's own memory.
    [[nodiscard]] std::uint64_t pagesInFile() const {
        std::uint64_t sum = 0;
        const auto files = GuestFiles::open(subject_.pid(), subject_.guestRam());
        EXPECT_TRUE(files);
        EXPECT_TRUE(files->forEachPage(0, pages, [&](PageNumber, std::uint64_t count) { sum += count; }));
        return sum;
    }
    [[nodiscard]] const Pager::Counters& counters() { return rig_->pager().counters(); }

    SubjectProcess subject_{8 * mib, SubjectMemory::shared};
    std::optional<PagerRig> rig_;
};

TEST_F(PagerUnmapping, whatIsStagedComesBackWithoutACopyAndWhatIsColdTakesNoMemory) {
    attach();
    rig_->startFaultHandler();
    ASSERT_EQ(stageEveryPage(), pages);
    EXPECT_EQ(pagesInFile(), pages);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
    ASSERT_EQ(stageEveryPage(), pages);
    EXPECT_EQ(counters().stagedFaults, pages);
    EXPECT_EQ(counters().stagedBack, pages);
    ASSERT_EQ(rig_->evictAll(), pages);
    EXPECT_EQ(pagesInFile(), 0U);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
    EXPECT_EQ(pagesInFile(), pages);
    EXPECT_EQ(stageEveryPage(), pages);
    EXPECT_EQ(counters().coldFaults + counters().prefetchedPages, pages);
}

TEST_F(PagerUnmapping, whatIsInTheFileIsTheGuestsEvenIfItWasNeverMapped) {
    ASSERT_EQ(subject_.command("unmap-pages 100 700"), "ok");
    attach();
    rig_->startFaultHandler();
    EXPECT_EQ(stageEveryPage(), pages);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerUnmapping, whoWritesToAPageThatIsBeingUnmappedWritesIntoIt) {
    attach();
    auto staging = stageUntilTheUnmapping();
    ASSERT_EQ(subject_.command("write 7 1"), "ok") << "it is mapped still";
    rig_->startFaultHandler();
    EXPECT_EQ(staging.get(), Step::done);
    EXPECT_EQ(subject_.command("write 8 1"), "ok");
    EXPECT_EQ(rig_->pager().stagedPages(0).count(), 127U);
    rig_->evictAll();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerUnmapping, whatTheGuestGivesUpWhileWeUnmapItIsZeros) {
    attach();
    auto staging = stageUntilTheUnmapping();
    ASSERT_EQ(subject_.command("start-discard 100 40"), "ok");  // 28 of ours, and 12 of others
    awaitBlocked(subject_.pid(), std::to_string(SYS_madvise), 2);
    rig_->startFaultHandler();
    EXPECT_EQ(staging.get(), Step::done);
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(rig_->pager().stagedPages(0).count(), 100U);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerUnmapping, whatTheGuestGivesUpAndWritesAnewIsNotTakenForTheOld) {
    attach();
    auto staging = stageUntilTheUnmapping();
    ASSERT_EQ(subject_.command("start-discard 100 40"), "ok");
    awaitBlocked(subject_.pid(), std::to_string(SYS_madvise), 2);
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(subject_.command("write 100 40"), "ok");  // at once: the unmapping may not have ended
    EXPECT_EQ(staging.get(), Step::done);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
    ASSERT_GT(stageEveryPage(), 0U);
    ASSERT_GT(rig_->evictAll(), 0U);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerUnmapping, whoFaultsBeforeItIsKnownWhoGaveThePageUpIsPutOff) {
    attach();
    // The guest's event comes first, and ours is still to come when the guest goes on: page 100 could be
    // taken for staged, with the bytes that it has given up.
    ASSERT_EQ(subject_.command("start-half-discard 100 1"), "ok");
    awaitBlocked(subject_.pid(), std::to_string(SYS_madvise));
    auto staging = std::async(std::launch::async,
                              [this] { return rig_->pager().stage(0, Pager::HotBlocks::take, 128); });
    awaitBlocked(subject_.pid(), std::to_string(SYS_madvise), 2);
    auto& pager = rig_->pager();
    std::array<uffd_msg, 1> message{};
    VmAddress fault;
    {
        // The fault thread's part, with the background held where it has unmapped and not settled yet.
        const PriorityMutex::Urgent layout(pager.layout());
        for (int events = 0; events < 2;) {
            if (rig_->guest().read(message) == 0) continue;
            pager.applyEvent(message[0]);
            ++events;
        }
        ASSERT_EQ(subject_.command("join-last"), "ok");
        ASSERT_EQ(subject_.command("start-touch 100"), "ok");
        while (rig_->guest().read(message) == 0) {
        }
        ASSERT_EQ(message[0].event, UFFD_EVENT_PAGEFAULT);
        fault = {message[0].arg.pagefault.address};
        EXPECT_EQ(pager.serve(fault, false, 0), Served::retry);
    }
    EXPECT_EQ(staging.get(), Step::done);
    EXPECT_EQ(pager.serve(fault, false, 0), Served::done);
    ASSERT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(counters().zeroFaults, 1U);
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerUnmapping, guestRamThatMovesWhileWeUnmapItIsNotTakenForStaged) {
    attach();
    auto staging = stageUntilTheUnmapping();
    ASSERT_EQ(subject_.command("start-remap"), "ok");
    awaitBlocked(subject_.pid(), std::to_string(SYS_mremap));
    rig_->startFaultHandler();
    (void)staging.get();
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(rig_->pager().stagedPages(0).count(), 0U) << "they can be written to";
    EXPECT_EQ(subject_.command("write 0 200"), "ok");
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
    EXPECT_EQ(stageEveryPage(), pages);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerUnmapping, pagesThatVanishWithoutAnEventAreZeros) {
    attach();
    rig_->startFaultHandler();
    ASSERT_EQ(subject_.command("punch 0 100"), "ok");  // resident
    ASSERT_EQ(stageEveryPage(), pages);
    ASSERT_EQ(subject_.command("punch 600 100"), "ok");  // staged
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
    ASSERT_EQ(stageEveryPage(), pages);
    ASSERT_EQ(subject_.command("punch 50 100"), "ok");
    EXPECT_EQ(rig_->pager().unstage(0), Step::done);
    EXPECT_EQ(rig_->pager().stagedPages(0).count(), 0U);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerUnmapping, whatWePutBackBetweenTheTwoHalvesOfGivingUpIsNotStale) {
    attachAndMakeCold();
    ASSERT_EQ(subject_.command("punch 20 300"), "ok");  // a hole already: nobody sees it
    rig_->restoreAll();
    EXPECT_EQ(pagesInFile(), pages);
    ASSERT_EQ(subject_.command("unmap-pages 20 300"), "ok");
    EXPECT_EQ(pagesInFile(), pages - 300);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerUnmapping, whatTheGuestGivesUpInAnyStateIsZeros) {
    attachAndMakeCold();
    ASSERT_EQ(subject_.command("discard 20 300"), "ok");
    ASSERT_EQ(subject_.command("remove 1000 300"), "ok");
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
    ASSERT_EQ(stageEveryPage(), pages);
    ASSERT_EQ(subject_.command("remove 0 100"), "ok");
    ASSERT_EQ(subject_.command("discard 1500 100"), "ok");
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerUnmapping, whatWeHoldCountsWhereTheFileKeptAPageOfZeros) {
    attachAndMakeCold();
    for (const unsigned page : {5U, 6U, 700U, 1500U})
        ASSERT_EQ(subject_.command("zero-in-file " + std::to_string(page)), "ok");
    EXPECT_EQ(subject_.command("touch 5 1 1").substr(0, 2), "ok");
    EXPECT_EQ(rig_->pager().restore(1), Step::done);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerUnmapping, nothingGoesWhileADeviceMayWriteToWhatWasUnmappedUnderIt) {
    const DiskFile file;
    attach();
    auto staging = stageUntilTheUnmapping();
    // It begins to write into pages that are still mapped, and has them when they are unmapped.
    ASSERT_EQ(subject_.command("read-directly " + file.path() + " 1 16"), "ok");
    ASSERT_EQ(subject_.command("await 100"), "ok");
    rig_->startFaultHandler();
    EXPECT_EQ(staging.get(), Step::done);
    EXPECT_GE(rig_->pager().stagedPages(0).count(), 112U);
    EXPECT_EQ(rig_->pager().evict(0, Algorithm::zstd), Step::pinned);
    EXPECT_EQ(rig_->pager().stagedPages(0).count(), 0U) << "they are no use there";
    EXPECT_EQ(rig_->pager().stage(0, Pager::HotBlocks::take), Step::pinned);
    EXPECT_EQ(counters().evictedPages, 0U);
    EXPECT_TRUE(subject_.command("stop").starts_with("ok "));  // and the file closed
    EXPECT_EQ(rig_->pager().stage(0, Pager::HotBlocks::take), Step::done);
    EXPECT_EQ(rig_->pager().evict(0, Algorithm::zstd), Step::done);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerUnmapping, nothingGoesWhilePagesArePinnedForLong) {
    attach();
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
