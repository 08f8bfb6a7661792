// SPDX-License-Identifier: Apache-2.0

// A stream whose fault waits for room for a whole block, or has one made aside, on the real kernel: what the
// guest can do to that block meanwhile, each forced.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <thread>

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
constexpr std::uint64_t pages = 8 * mib / pageBytes;
constexpr auto pageFault = "-1";
constexpr auto messagesRead = "messages-read";  // and faults are about to be served
constexpr auto streamsNext = pagesPerBlock;     // the first page of the block that the stream is to bring

class PagerStream : public ::testing::Test {
  protected:
    PagerStream() { EXPECT_EQ(subject_.command("fill 1 plain"), "ok"); }
    ~PagerStream() override {
        awaited_.letGo();
        filled_.letGo();
        read_.letGo();
        rig_.reset();
    }
    /// All is in the store but the first block, which a stream has just come to the end of.
    void streamThroughTheFirstBlock() {
        rig_.emplace(subject_);
        rig_->registerGuest();
        ASSERT_EQ(rig_->stageAll(), pages);
        ASSERT_EQ(rig_->evictAll(), pages);
        rig_->startFaultHandler([] { sequencePoint(messagesRead); });
        ASSERT_TRUE(subject_.command(fmt::format("touch 0 {} 1", pagesPerBlock)).starts_with("ok"));
        // A page counts just after its thread was woken.
        while (stored() > pages - pagesPerBlock)
            std::this_thread::yield();
        ASSERT_EQ(stored(), pages - pagesPerBlock);
    }
    /// A limit with room for pages, but not for a block.
    void leaveNoRoomForABlock() {
        rig_->budget().setLimit(1);
        rig_->budget().reclaimed();
        ASSERT_TRUE(rig_->budget().hasRoom(64 * pageBytes));
        ASSERT_FALSE(rig_->budget().hasRoom(blockBytes));
    }
    void makeRoom() { rig_->budget().setLimit(0); }
    /// The guest's thread waits for a page of the next block, and the fault thread has stopped.
    void stopWhereABlockIsAwaited() {
        streamThroughTheFirstBlock();
        leaveNoRoomForABlock();
        awaited_.arm();
        ASSERT_EQ(subject_.command(fmt::format("start-touch {}", streamsNext)), "ok");
        ASSERT_TRUE(awaited_.await()) << "the stream's fault did not wait for room for a block";
    }
    [[nodiscard]] std::uint64_t stored() {
        const auto& map = rig_->pager().pages();
        return map.count(PageState::cold) + map.count(PageState::filled);
    }

    SubjectProcess subject_{8 * mib, true};
    StopPoint awaited_{"block-awaited"};
    StopPoint filled_{"fresh-filled-ahead"};
    StopPoint read_{messagesRead};
    std::optional<PagerRig> rig_;
};

TEST_F(PagerStream, theAwaitedBlockComesWholeOnceThereIsRoom) {
    ASSERT_NO_FATAL_FAILURE(stopWhereABlockIsAwaited());
    EXPECT_EQ(stored(), pages - pagesPerBlock) << "a part of it came before";
    makeRoom();
    awaited_.letGo();
    EXPECT_EQ(subject_.command("join-last"), "ok");
    while (stored() > pages - 2 * pagesPerBlock)
        std::this_thread::yield();
    EXPECT_TRUE(rig_->pager().takeStreamed(1));
    EXPECT_EQ(stored(), pages - 2 * pagesPerBlock);
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_F(PagerStream, whoWritesToAnotherPageOfAnAwaitedBlockWritesIntoIt) {
    ASSERT_NO_FATAL_FAILURE(stopWhereABlockIsAwaited());
    ASSERT_EQ(subject_.command(fmt::format("start-write {}", streamsNext + 200)), "ok");
    awaitBlocked(subject_.pid(), pageFault, 2);
    awaited_.letGo();
    makeRoom();
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

/// Pages that the guest gives up, and how.
struct GivenUp {
    const char* name;
    const char* how;
    std::uint64_t first;
    std::uint64_t count;
};

class PagerStreamGivenUp : public PagerStream, public ::testing::WithParamInterface<GivenUp> {
  protected:
    /// The event waits to be read.
    void giveUp() {
        const auto& [name, how, first, count] = GetParam();
        ASSERT_EQ(subject_.command(fmt::format("start-{} {} {}", how, first, count)), "ok");
        awaitBlocked(subject_.pid(), std::to_string(SYS_madvise));
    }
};

TEST_P(PagerStreamGivenUp, whatIsGivenUpWhileAFaultWaitsForTheWholeBlockIsZeros) {
    ASSERT_NO_FATAL_FAILURE(stopWhereABlockIsAwaited());
    ASSERT_NO_FATAL_FAILURE(giveUp());
    awaited_.letGo();
    EXPECT_EQ(subject_.command("join-last"), "ok") << "who gives up must not wait for room";
    makeRoom();
    EXPECT_EQ(subject_.command("join-last"), "ok") << "the thread that faulted";
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_P(PagerStreamGivenUp, whatIsGivenUpJustBeforeThereIsRoomForTheWholeBlockIsZeros) {
    ASSERT_NO_FATAL_FAILURE(stopWhereABlockIsAwaited());
    read_.arm();
    awaited_.letGo();
    ASSERT_TRUE(read_.await());
    ASSERT_NO_FATAL_FAILURE(giveUp());
    makeRoom();  // before the event is read: the block is made aside with what is given up in it
    read_.letGo();
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(subject_.command("join-last"), "ok") << "the thread that faulted";
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

TEST_P(PagerStreamGivenUp, whatIsGivenUpWhileTheWholeBlockIsMadeAsideIsZeros) {
    ASSERT_NO_FATAL_FAILURE(streamThroughTheFirstBlock());
    filled_.arm();
    ASSERT_EQ(subject_.command(fmt::format("start-touch {}", streamsNext)), "ok");
    ASSERT_TRUE(filled_.await()) << "the stream's next block did not come whole";
    ASSERT_NO_FATAL_FAILURE(giveUp());
    filled_.letGo();
    EXPECT_EQ(subject_.command("join-last"), "ok");
    EXPECT_EQ(subject_.command("join-last"), "ok") << "the thread that faulted";
    EXPECT_EQ(subject_.command("verify"), "ok 2048");
}

INSTANTIATE_TEST_SUITE_P(
    Pages, PagerStreamGivenUp,
    ::testing::Values(GivenUp{"ThePageItself", "discard", streamsNext, 1},
                      GivenUp{"OthersOfTheBlock", "discard", streamsNext + 100, 40},
                      GivenUp{"AllOfTheBlock", "discard", streamsNext, pagesPerBlock},
                      GivenUp{"AcrossTheEndOfTheBlock", "discard", streamsNext + 500, 100},
                      GivenUp{"ThePageItselfLazily", "free", streamsNext, 1},
                      GivenUp{"AllOfTheBlockLazily", "free", streamsNext, pagesPerBlock}),
    [](const auto& parameter) { return std::string(parameter.param.name); });

}  // namespace
}  // namespace thermocline::memory
