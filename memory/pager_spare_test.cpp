// SPDX-License-Identifier: Apache-2.0

// The huge page that an evicted block left and the next one takes over, on the real kernel: whose bytes it
// holds, and who may touch it, each forced. The test is the background thread, and now and then the other.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <future>

#include "memory/process_map.h"
#include "memory/testing/awaiting.h"
#include "memory/testing/pager_rig.h"
#include "memory/testing/stop_point.h"
#include "memory/testing/subject_process.h"

namespace thermocline::memory {
namespace {

using testing::awaitBlocked;
using testing::PagerRig;
using testing::StopPoint;
using testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;
constexpr std::uint64_t blocks = 4;
constexpr std::uint64_t pages = blocks * pagesPerBlock;
constexpr BlockNumber first = 0;
constexpr BlockNumber next = 1;
constexpr BlockNumber last = 3;

class PagerSpare : public ::testing::Test {
  protected:
    PagerSpare() {
        EXPECT_EQ(subject_.command("fill 1 plain"), "ok");
        rig_.emplace(subject_);
        rig_->registerGuest();
        for (BlockNumber block = 0; block < blocks; ++block)
            EXPECT_EQ(pager().stage(block, Pager::HotBlocks::passed), Step::done);
        for (BlockNumber block = 0; block < last; ++block)
            evict(block);
        EXPECT_EQ(pager().leftoverPages(), 0U) << "nobody wants a spare yet";
        EXPECT_TRUE(pager().prefetchBlock(address(first)));
        evict(last);
        EXPECT_EQ(pager().spareBytes(), blockBytes);
        EXPECT_EQ(pager().leftoverPages(), pagesPerBlock);
    }
    ~PagerSpare() override {
        filled_.letGo();
        rig_.reset();
    }
    Pager& pager() { return rig_->pager(); }
    void evict(BlockNumber block) {
        EXPECT_EQ(pager().evict(block, Algorithm::lz4, Pager::Poor::store), Step::done);
        EXPECT_EQ(pager().dropAllLeftovers(), Step::done);
    }
    [[nodiscard]] VmAddress address(BlockNumber block) const {
        return subject_.guestRam().front().start + block * blockBytes;
    }
    [[nodiscard]] std::uint64_t hugeBytes() const {
        const auto smaps = readProcFile(fmt::format("/proc/{}/smaps_rollup", subject_.pid())).value_or("");
        return statusField(smaps, "AnonHugePages");
    }
    /// The fault thread has filled the spare with the next block, and stopped before it moves it in.
    std::future<bool> stopWhereTheSpareIsLent() {
        filled_.arm();
        auto bringing =
            std::async(std::launch::async, [this] { return pager().prefetchBlock(address(next)); });
        EXPECT_TRUE(filled_.await());
        EXPECT_EQ(pager().spareBytes(), 0U);
        EXPECT_EQ(pager().leftoverPages(), pagesPerBlock) << "it takes memory all the same";
        return bringing;
    }
    void verifyAll() {
        rig_->startFaultHandler();
        EXPECT_EQ(subject_.command("verify"), fmt::format("ok {}", pages));
        EXPECT_EQ(pager().counters().lostPages, 0U);
    }

    SubjectProcess subject_{blocks * blockBytes, true};
    StopPoint filled_{"fresh-filled-ahead"};
    std::optional<PagerRig> rig_;
};

TEST_F(PagerSpare, theNextBlockTakesItOverAndIsOneHugePage) {
    ASSERT_TRUE(pager().prefetchBlock(address(next)));
    EXPECT_EQ(pager().spareBytes(), 0U);
    EXPECT_EQ(pager().leftoverPages(), 0U);
    EXPECT_EQ(pager().pages().pagesIn(next, PageState::resident), allPages());
    EXPECT_EQ(hugeBytes(), 2 * blockBytes) << "of the first block and the next";
    verifyAll();
}

TEST_F(PagerSpare, onlyOneIsHeld) {
    ASSERT_EQ(pager().stage(first, Pager::HotBlocks::passed), Step::done);
    evict(first);
    EXPECT_EQ(pager().leftoverPages(), pagesPerBlock) << "a second one is freed at once";
    verifyAll();
}

TEST_F(PagerSpare, whereItIsLentNobodyDropsItAndNothingIsStagedThere) {
    auto bringing = stopWhereTheSpareIsLent();
    EXPECT_EQ(pager().dropLeftovers(last), Step::nothing);
    pager().withdrawSpare();
    EXPECT_EQ(pager().dropAllLeftovers(), Step::done);
    while (pager().restore(last) == Step::retry) {
    }
    EXPECT_EQ(pager().stage(last, Pager::HotBlocks::take), Step::nothing);
    EXPECT_EQ(pager().leftoverPages(), pagesPerBlock);
    filled_.letGo();
    EXPECT_TRUE(bringing.get());
    EXPECT_EQ(pager().leftoverPages(), 0U);
    EXPECT_EQ(pager().stage(last, Pager::HotBlocks::take), Step::done) << "there is room again";
    verifyAll();
}

TEST_F(PagerSpare, whatIsGivenUpWhileItIsFilledIsZerosAndItIsFreed) {
    auto bringing = stopWhereTheSpareIsLent();
    ASSERT_EQ(subject_.command(fmt::format("start-discard {} 40", next * pagesPerBlock + 100)), "ok");
    awaitBlocked(subject_.pid(), std::to_string(SYS_madvise));
    filled_.letGo();
    EXPECT_FALSE(bringing.get()) << "the kernel moves nothing before the event is read";
    EXPECT_EQ(pager().leftoverPages(), pagesPerBlock);
    EXPECT_EQ(pager().dropAllLeftovers(), Step::done);
    EXPECT_EQ(pager().leftoverPages(), 0U);
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(subject_.command("verify"), fmt::format("ok {}", pages));
}

TEST_F(PagerSpare, itIsFreedBeforeItsBlockIsStagedAgain) {
    while (pager().restore(last) == Step::retry) {
    }
    EXPECT_EQ(pager().spareBytes(), 0U);
    EXPECT_EQ(pager().leftoverPages(), 0U);
    EXPECT_EQ(pager().stage(last, Pager::HotBlocks::take), Step::done);
    EXPECT_TRUE(pager().prefetchBlock(address(next)));
    verifyAll();
}

TEST_F(PagerSpare, itIsFreedWhereTheStreamHasEnded) {
    while (pager().spareBytes() != 0)
        ASSERT_EQ(pager().dropAllLeftovers(), Step::done);
    EXPECT_EQ(pager().leftoverPages(), 0U);
    EXPECT_EQ(hugeBytes(), blockBytes) << "of the first block alone";
    verifyAll();
}

}  // namespace
}  // namespace thermocline::memory
