// SPDX-License-Identifier: Apache-2.0

// Huge pages that are made again, in place or aside, on the real kernel: what the guest can do to their pages
// meanwhile, each forced.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <future>
#include <thread>

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

class PagerRebuild : public ::testing::Test {
  protected:
    PagerRebuild() {
        EXPECT_EQ(subject_.command("fill 1 plain"), "ok");
        rig_.emplace(subject_);
        rig_->registerGuest();
    }
    ~PagerRebuild() override {
        collapsing_.letGo();
        filled_.letGo();
        rig_.reset();
    }
    Pager& pager() { return rig_->pager(); }
    /// What a stream has passed is staged, and goes.
    Step passAndEvict(BlockNumber block) {
        auto step = Step::retry;
        while ((step = pager().stage(block, Pager::HotBlocks::passed)) == Step::retry)
            std::this_thread::yield();
        if (step == Step::done) step = pager().evict(block, Algorithm::lz4, Pager::Poor::store);
        EXPECT_EQ(pager().dropAllLeftovers(), Step::done);
        return step;
    }
    /// From the store, by two halves: so in small pages.
    void bringBackInPieces(BlockNumber block) {
        BlockMask half;
        for (std::size_t page = 0; page < pagesPerBlock / 2; ++page)
            half.set(page);
        auto other = allPages();
        other -= half;
        for (const auto& part : {half, other})
            while (pager().restorePages(block, part) == Step::retry)
                std::this_thread::yield();
    }
    [[nodiscard]] std::uint64_t hugeBytes() const {
        const auto smaps = readProcFile(fmt::format("/proc/{}/smaps_rollup", subject_.pid())).value_or("");
        return statusField(smaps, "AnonHugePages");
    }
    /// The first block is about to be collapsed.
    std::future<Step> stopBeforeTheCollapse() {
        EXPECT_EQ(passAndEvict(0), Step::done);
        bringBackInPieces(0);
        EXPECT_EQ(pager().pages().count(PageState::resident), pages);
        EXPECT_EQ(hugeBytes(), (blocks - 1) * blockBytes);
        collapsing_.arm();
        auto rebuilding = std::async(std::launch::async, [this] { return pager().rebuild(0); });
        EXPECT_TRUE(collapsing_.await());
        return rebuilding;
    }

    SubjectProcess subject_{blocks * blockBytes, true};
    StopPoint collapsing_{"to-be-collapsed"};
    StopPoint filled_{"fresh-filled"};
    std::optional<PagerRig> rig_;
};

TEST_F(PagerRebuild, aPassedBlockIsMadeHugeAndKeepsItsBytes) {
    rig_->startFaultHandler();
    auto rebuilding = stopBeforeTheCollapse();
    ASSERT_EQ(subject_.command("write 300 20"), "ok") << "nobody waits for a collapse";
    collapsing_.letGo();
    EXPECT_EQ(rebuilding.get(), Step::done);
    EXPECT_EQ(hugeBytes(), blocks * blockBytes);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
    EXPECT_EQ(passAndEvict(0), Step::done);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerRebuild, whatIsGivenUpBeforeAPassedBlockIsCollapsedIsZeros) {
    rig_->startFaultHandler();
    auto rebuilding = stopBeforeTheCollapse();
    ASSERT_EQ(subject_.command("discard 100 40"), "ok");
    ASSERT_EQ(subject_.command("write 120 10"), "ok");  // of those
    ASSERT_EQ(subject_.command("free 400 10"), "ok");
    ASSERT_EQ(subject_.command("write 400 10"), "ok");
    collapsing_.letGo();
    EXPECT_EQ(rebuilding.get(), Step::done);
    EXPECT_EQ(passAndEvict(0), Step::done);
    EXPECT_EQ(pager().pages().peek(110).state(), PageState::absent);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerRebuild, whatIsBeingGivenUpWhileAPassedBlockIsCollapsedIsZeros) {
    auto rebuilding = stopBeforeTheCollapse();
    ASSERT_EQ(subject_.command("start-discard 100 40"), "ok");
    awaitBlocked(subject_.pid(), std::to_string(SYS_madvise));
    collapsing_.letGo();
    EXPECT_EQ(rebuilding.get(), Step::done);
    EXPECT_EQ(hugeBytes(), blocks * blockBytes) << "without the collapse this shows nothing";
    EXPECT_EQ(pager().stage(0, Pager::HotBlocks::passed), Step::retry) << "the event was not read yet";
    rig_->startFaultHandler();
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(passAndEvict(0), Step::done);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerRebuild, whatIsGivenUpWhileItsBlockIsMadeAsideIsZeros) {
    rig_->startFaultHandler();
    ASSERT_EQ(passAndEvict(0), Step::done);
    filled_.arm();
    auto restoring = std::async(std::launch::async, [this] { return pager().restore(0); });
    ASSERT_TRUE(filled_.await());
    // Read and carried out while the block, with the pages' bytes, waits to be moved in: it is stale.
    ASSERT_EQ(subject_.command("discard 100 40"), "ok");
    ASSERT_EQ(subject_.command("write 110 5"), "ok");
    filled_.letGo();
    EXPECT_EQ(restoring.get(), Step::done);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerRebuild, whoWritesWhileBlocksAreRebuiltAllTheTimeLosesNothing) {
    rig_->startFaultHandler();
    ASSERT_EQ(subject_.command("hammer 2 keep"), "ok");
    std::uint64_t rebuilt = 0;
    for (int round = 0; rebuilt < 40 && round < 4000; ++round) {
        const auto block = static_cast<BlockNumber>(round) % blocks;
        // Aside as a whole it is touched at once; being hot, it goes in small pages the next time.
        (void)pager().stage(block, Pager::HotBlocks::split);
        (void)pager().evict(block, Algorithm::lz4, Pager::Poor::store);
        EXPECT_EQ(pager().dropAllLeftovers(), Step::done);
        bringBackInPieces(block);
        const auto before = hugeBytes();
        (void)pager().rebuild(block);
        if (hugeBytes() > before) ++rebuilt;
    }
    EXPECT_GE(rebuilt, 40U);
    EXPECT_EQ(subject_.command("await-more 1000"), "ok");
    EXPECT_TRUE(subject_.command("stop").starts_with("ok "));
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

}  // namespace
}  // namespace thermocline::memory
