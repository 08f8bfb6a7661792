// SPDX-License-Identifier: Apache-2.0

// The file tier's interleavings, forced: the test is the fault thread. And what becomes of a record that the
// disk does not give back as it was.

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <thread>

#include "memory/testing/pager_rig.h"
#include "memory/testing/subject_process.h"

namespace thermocline::memory {
namespace {

using testing::PagerRig;
using testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;
constexpr std::uint64_t pages = 2048;

FrozenTierOptions takesAtOnce() {
    FrozenTierOptions tier;
    tier.store.directory = std::filesystem::current_path();
    tier.store.maxFileBytes = 64 * mib;
    tier.age = std::chrono::milliseconds(0);
    return tier;
}

class PagerFrozen : public ::testing::Test {
  protected:
    /// All of the subject is in the file; no fault handler runs.
    void freeze(FrozenTierOptions tier = takesAtOnce()) {
        ASSERT_EQ(subject_.command("fill 1 plain"), "ok");
        rig_.emplace(subject_, std::move(tier));
        rig_->registerGuest();
        ASSERT_EQ(rig_->stageAll(), pages);
        ASSERT_EQ(rig_->evictAll(), pages);
        ASSERT_EQ(rig_->freezeAll(), pages);
        // Records that are still being filled in are read from memory.
        ASSERT_TRUE(rig_->frozen().store().flush());
        while (rig_->frozen().store().status().writesUnderWay > 0)
            ASSERT_TRUE(rig_->frozen().store().wait());
    }
    [[nodiscard]] VmAddress address(PageNumber page) const {
        return subject_.guestRam().front().start + page * pageBytes;
    }
    Served fault(PageNumber page, std::uint64_t room = 0) {
        return rig_->pager().serve(address(page), false, room);
    }
    /// The first block, which does not compress, is in the file.
    void freezeNoise() {
        ASSERT_EQ(subject_.command("fill 1 noise"), "ok");
        rig_.emplace(subject_, takesAtOnce());
        rig_->registerGuest();
        auto& pager = rig_->pager();
        while (frozen() < pagesPerBlock) {
            (void)pager.stage(0, Pager::HotBlocks::take, pagesPerBlock, true);
            ASSERT_NE(pager.evict(0, Algorithm::lz4, Pager::Poor::freeze), Step::gone);
            ASSERT_TRUE(rig_->frozen().store().wait());  // the disk is behind now and then
        }
    }
    void giveUp(PageNumber page) {
        uffd_msg message{};
        message.event = UFFD_EVENT_REMOVE;
        message.arg.remove.start = address(page).value;
        message.arg.remove.end = address(page + 1).value;
        const PriorityMutex::Urgent layout(rig_->pager().layout());
        rig_->pager().applyEvent(message);
    }
    /// Waits until reads have ended; what is to be served again.
    std::vector<VmAddress> finishReads() {
        pollfd polled{rig_->pager().diskEvent(), POLLIN, 0};
        EXPECT_EQ(::poll(&polled, 1, 20'000), 1);
        std::vector<VmAddress> again;
        rig_->pager().finishReads([&](VmAddress at) { again.push_back(at); });
        return again;
    }
    std::uint64_t frozen() { return rig_->pager().pages().count(PageState::frozen); }

    SubjectProcess subject_{pages * pageBytes, false};
    std::optional<PagerRig> rig_;
};

TEST_F(PagerFrozen, aPageThatTheStoreHoldsAsItIsBecomesARecord) {
    ASSERT_EQ(subject_.command("fill 1 mixed"), "ok");
    rig_.emplace(subject_, takesAtOnce());
    rig_->registerGuest();
    ASSERT_EQ(rig_->stageAll(), pages);
    const auto& map = rig_->pager().pages();
    for (BlockNumber block = 0; block < map.blocks(); ++block)
        ASSERT_EQ(rig_->pager().evict(block, Algorithm::lz4, Pager::Poor::store), Step::done);
    ASSERT_EQ(rig_->pager().dropAllLeftovers(), Step::done);
    std::uint64_t asTheyAre = 0;
    for (PageNumber page = 0; page < pages; ++page)
        if (map.peek(page).state() == PageState::cold && ColdStore::asItIs(map.peek(page).slot()))
            ++asTheyAre;
    ASSERT_GT(asTheyAre, 0U);
    ASSERT_EQ(rig_->freezeAll(), pages - map.count(PageState::filled));
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, twoFaultsOnAPageNeedOneRead) {
    freeze();
    EXPECT_EQ(fault(7), Served::reading);
    EXPECT_EQ(fault(7), Served::reading);
    EXPECT_TRUE(rig_->pager().waitsForDisk());
    EXPECT_TRUE(finishReads().empty());
    EXPECT_FALSE(rig_->pager().waitsForDisk());
    EXPECT_EQ(rig_->pager().counters().frozenFaults, 1U);
    EXPECT_EQ(frozen(), pages - 1);
    EXPECT_EQ(fault(7), Served::done) << "it is there";
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, aReadThatEndsAfterItsPageWasGivenUpBringsNothingBack) {
    freeze();
    EXPECT_EQ(fault(7), Served::reading);
    giveUp(7);
    EXPECT_EQ(finishReads(), std::vector{address(7)}) << "who waits is to be served again";
    EXPECT_EQ(rig_->pager().pages().peek(7), PageEntry::absent());
    EXPECT_EQ(rig_->pager().counters().frozenFaults, 0U);
    EXPECT_EQ(fault(7), Served::done);
    EXPECT_EQ(rig_->pager().counters().zeroFaults, 1U);
    rig_->startFaultHandler();
    // Of what the subject wrote that one page is zeros now, as after a discard.
    EXPECT_EQ(subject_.command("discard 7 1"), "ok");
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, aPageReadAheadAndGivenUpIsServedToNobody) {
    freeze();
    EXPECT_EQ(rig_->pager().prefetch(address(100), pageBytes, 8), 0U) << "they come later";
    giveUp(103);
    while (frozen() > pages - 8)
        EXPECT_TRUE(finishReads().empty()) << "nobody waits";
    EXPECT_EQ(rig_->pager().pages().peek(103), PageEntry::absent());
    EXPECT_EQ(rig_->pager().counters().prefetchedPages, 7U);
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("discard 103 1"), "ok");
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, whatTheDiskDoesNotGiveBackIsNeverServed) {
    // Asked until the rig is gone, which is after the end of this function.
    const auto isBroken = std::make_shared<std::atomic<bool>>(false);
    auto& broken = *isBroken;
    auto tier = takesAtOnce();
    tier.store.seams.ioDone = [isBroken](bool write, std::uint64_t, int result) {
        return !write && *isBroken ? -EIO : result;
    };
    freeze(std::move(tier));
    broken = true;
    EXPECT_EQ(fault(7), Served::reading);
    EXPECT_TRUE(finishReads().empty());
    EXPECT_EQ(rig_->pager().counters().lostPages, 1U);
    EXPECT_EQ(frozen(), pages) << "it stays where it is";
    broken = false;
    EXPECT_EQ(fault(7), Served::reading) << "the disk is there again";
    EXPECT_TRUE(finishReads().empty());
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, whatLiesTogetherIsReadTogether) {
    const auto reads = std::make_shared<std::atomic<unsigned>>(0);
    auto tier = takesAtOnce();
    tier.store.seams.ioDone = [reads](bool write, std::uint64_t, int result) {
        if (!write) ++*reads;
        return result;
    };
    freeze(std::move(tier));
    constexpr PageNumber wanted = 64;
    EXPECT_EQ(fault(108), Served::reading);
    EXPECT_EQ(rig_->pager().prefetch(address(100), pageBytes, wanted), 0U);
    while (frozen() > pages - wanted)
        EXPECT_TRUE(finishReads().empty());
    // One for the fault, and what it cuts in two comes with some dozen for each of the others.
    EXPECT_LE(*reads, 1 + wanted / 10 + 1);
    EXPECT_EQ(rig_->pager().counters().frozenFaults, 1U);
    EXPECT_EQ(rig_->pager().counters().prefetchedPages, wanted - 1);
    for (PageNumber page = 100; page < 100 + wanted; ++page)
        EXPECT_EQ(rig_->pager().pages().peek(page).state(), PageState::resident) << page;
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, whereAReadOfManyFailsEachIsReadAloneAndNoneIsLost) {
    auto tier = takesAtOnce();
    // The disk has a bad place somewhere, of which no record alone knows.
    tier.store.seams.ioDone = [](bool write, std::uint64_t, int result) {
        return write || result <= 8192 ? result : -EIO;
    };
    freeze(std::move(tier));
    constexpr PageNumber wanted = 32;
    EXPECT_EQ(rig_->pager().prefetch(address(0), pageBytes, wanted), 0U);
    EXPECT_EQ(fault(7), Served::reading) << "that is on its way already";
    while (frozen() > pages - wanted)
        EXPECT_TRUE(finishReads().empty());
    EXPECT_EQ(rig_->pager().counters().frozenFaults, 1U);
    EXPECT_EQ(rig_->pager().counters().prefetchedPages, wanted - 1);
    EXPECT_EQ(rig_->pager().counters().lostPages, 0U);
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

/// Half of the guest is in its memory, so that the file holds no more than that.
class PagerHalfFrozen : public PagerFrozen {
  protected:
    static constexpr PageNumber half = pages / 2;

    void SetUp() override {
        ASSERT_EQ(subject_.command("fill 1 plain"), "ok");
        rig_.emplace(subject_, takesAtOnce());
        rig_->registerGuest();
        for (BlockNumber block = 0; block < half / pagesPerBlock; ++block) {
            ASSERT_EQ(rig_->pager().stage(block, Pager::HotBlocks::take), Step::done);
            ASSERT_EQ(rig_->pager().evict(block, Algorithm::lz4), Step::done);
        }
        ASSERT_EQ(rig_->pager().dropAllLeftovers(), Step::done);
        ASSERT_EQ(rig_->freezeAll(), half);
        ASSERT_TRUE(rig_->frozen().store().flush());
        while (rig_->frozen().store().status().writesUnderWay > 0)
            ASSERT_TRUE(rig_->frozen().store().wait());
    }
    [[nodiscard]] PageState stateOf(PageNumber page) { return rig_->pager().pages().peek(page).state(); }
};

TEST_F(PagerHalfFrozen, whatLiesBesideAPageThatIsWantedGoesToTheStore) {
    ASSERT_EQ(fault(100), Served::reading);
    while (frozen() > half - 21)
        EXPECT_TRUE(finishReads().empty());
    for (PageNumber page = 90; page <= 110; ++page)
        EXPECT_EQ(stateOf(page), page == 100 ? PageState::resident : PageState::cold) << page;
    EXPECT_EQ(stateOf(89), PageState::frozen);
    EXPECT_EQ(stateOf(111), PageState::frozen);
    EXPECT_EQ(rig_->pager().counters().frozenFaults, 1U);
    EXPECT_EQ(rig_->pager().counters().prefetchedPages, 0U);
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, whatDoesNotCompressComesBackWithAPageBesideItWhereThereIsRoom) {
    ASSERT_NO_FATAL_FAILURE(freezeNoise());
    ASSERT_TRUE(rig_->frozen().store().flush());
    ASSERT_EQ(fault(100), Served::reading);
    EXPECT_TRUE(finishReads().empty());
    EXPECT_EQ(frozen(), pagesPerBlock - 1) << "no room for more";
    ASSERT_EQ(fault(200, mib), Served::reading);
    while (frozen() > pagesPerBlock - 22)
        EXPECT_TRUE(finishReads().empty());
    for (PageNumber page = 190; page <= 210; ++page)
        EXPECT_EQ(rig_->pager().pages().peek(page).state(), PageState::resident) << page;
    EXPECT_EQ(rig_->pager().counters().frozenFaults, 2U);
    EXPECT_EQ(rig_->pager().counters().prefetchedPages, 20U);
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerHalfFrozen, whoIsWantedMeanwhileComesAllTheWay) {
    ASSERT_EQ(fault(100), Served::reading);
    ASSERT_EQ(fault(103), Served::reading) << "beside the first";
    EXPECT_EQ(rig_->pager().prefetch(address(105), pageBytes, 2), 0U);
    giveUp(95);
    while (frozen() > half - 24)
        EXPECT_TRUE(finishReads().empty());
    for (const PageNumber page : {100, 103, 105, 106})
        EXPECT_EQ(stateOf(page), PageState::resident) << page;
    EXPECT_EQ(stateOf(95), PageState::absent);
    EXPECT_EQ(stateOf(104), PageState::cold);
    EXPECT_EQ(rig_->pager().counters().frozenFaults, 2U);
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("discard 95 1"), "ok");
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, whatCannotBeWrittenComesBackIntoTheStore) {
    auto tier = takesAtOnce();
    tier.store.seams.ioDone = [](bool write, std::uint64_t, int result) { return write ? -EIO : result; };
    ASSERT_EQ(subject_.command("fill 1 plain"), "ok");
    rig_.emplace(subject_, std::move(tier));
    rig_->registerGuest();
    rig_->stageAll();
    ASSERT_EQ(rig_->evictAll(), pages);
    for (BlockNumber block = 0; block < rig_->pager().pages().blocks(); ++block)
        (void)rig_->pager().freeze(block, {});
    ASSERT_GT(frozen(), 0U);
    (void)rig_->frozen().store().flush();
    while (frozen() > 0)
        rig_->pager().tendFrozen();
    EXPECT_EQ(rig_->pager().pages().count(PageState::cold), pages);
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, whatAStreamWantsAsAWholeGoesOnlyWhenItHasNotComeForLong) {
    using std::chrono_literals::operator""h;
    ASSERT_EQ(subject_.command("fill 1 plain"), "ok");
    rig_.emplace(subject_, takesAtOnce());
    rig_->registerGuest();
    auto& pager = rig_->pager();
    for (const BlockNumber block : {0, 1}) {
        ASSERT_EQ(pager.stage(block, block == 0 ? Pager::HotBlocks::passed : Pager::HotBlocks::take),
                  Step::done);
        EXPECT_EQ(pager.takeStreamed(block), block == 0);
        ASSERT_EQ(pager.evict(block, Algorithm::lz4, Pager::Poor::store), Step::done);
    }
    const auto frozenOf = [&](BlockNumber block) {
        return pager.pages().pagesIn(block, PageState::frozen).count();
    };
    EXPECT_EQ(pager.freeze(0, {.scattered = 0h, .streamed = 1h}), Step::nothing);
    EXPECT_EQ(pager.freeze(1, {.scattered = 1h, .streamed = 0h}), Step::nothing);
    EXPECT_EQ(frozenOf(0) + frozenOf(1), 0U);
    while (frozenOf(0) < pagesPerBlock)  // the disk is behind now and then
        ASSERT_NE(pager.freeze(0, {.scattered = 1h, .streamed = 0h}), Step::nothing);
    while (frozenOf(1) < pagesPerBlock)
        ASSERT_NE(pager.freeze(1, {.scattered = 0h, .streamed = 1h}), Step::nothing);
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, aBlockIsQuietUntilTheGuestWaitsForAPageOfIt) {
    using std::chrono_literals::operator""h;
    using std::chrono_literals::operator""ms;
    freeze();
    EXPECT_TRUE(rig_->pager().quiet(0, 0ms));
    EXPECT_FALSE(rig_->pager().quiet(0, 1h));  // nothing is known of before the attach
    while (!rig_->pager().quiet(0, 200ms) || !rig_->pager().quiet(1, 200ms))
        std::this_thread::yield();
    ASSERT_EQ(fault(pagesPerBlock), Served::reading);
    EXPECT_TRUE(rig_->pager().quiet(0, 200ms));
    EXPECT_FALSE(rig_->pager().quiet(1, 200ms));
    EXPECT_TRUE(finishReads().empty());
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, whatDoesNotCompressIsTriedAgainSoonOnlyIfItMayGoToTheDisk) {
    ASSERT_EQ(subject_.command("fill 1 noise"), "ok");
    rig_.emplace(subject_, takesAtOnce());
    rig_->registerGuest();
    auto& pager = rig_->pager();
    ASSERT_EQ(pager.stage(0, Pager::HotBlocks::take), Step::done);
    ASSERT_EQ(pager.evict(0, Algorithm::lz4), Step::poor);
    EXPECT_EQ(pager.stage(0, Pager::HotBlocks::take), Step::poor);
    EXPECT_FALSE(pager.stagedPages(0).any());
    ASSERT_EQ(pager.stage(0, Pager::HotBlocks::take, pagesPerBlock, true), Step::done);
    ASSERT_EQ(pager.evict(0, Algorithm::lz4, Pager::Poor::freeze), Step::done);
    while (frozen() < pagesPerBlock) {  // the disk is behind now and then
        ASSERT_TRUE(rig_->frozen().store().wait());
        (void)pager.stage(0, Pager::HotBlocks::take, pagesPerBlock, true);
        ASSERT_NE(pager.evict(0, Algorithm::lz4, Pager::Poor::freeze), Step::gone);
    }
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerFrozen, compactionMovesRecordsUnderTheirPages) {
    auto tier = takesAtOnce();
    tier.store.maxSpaceMultiple = 1.1;
    freeze(std::move(tier));
    // Every other page comes back: each segment is half empty.
    for (PageNumber page = 0; page < pages; page += 2) {
        auto served = fault(page);
        while (served == Served::retry) {
            EXPECT_TRUE(finishReads().empty());
            served = fault(page);
        }
        ASSERT_EQ(served, Served::reading);
    }
    while (frozen() > pages / 2)
        EXPECT_TRUE(finishReads().empty());
    auto& store = rig_->frozen().store();
    ASSERT_GT(store.status().fileBytes, store.status().liveBytes * 3 / 2 + mib);
    while (store.status().fileBytes > store.status().liveBytes * 11 / 10 + mib) {
        rig_->pager().tendFrozen();
        ASSERT_TRUE(store.wait());
    }
    EXPECT_EQ(frozen(), pages / 2);
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

}  // namespace
}  // namespace thermocline::memory
