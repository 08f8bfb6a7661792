// SPDX-License-Identifier: Apache-2.0

// The whole engine while a stream waits for room for a block and reclaim, which is to make it, is held up:
// what ends the management of the VM, or the VM, just then.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <future>

#include "memory/testing/anatomy.h"
#include "memory/testing/stop_point.h"
#include "memory/testing/subject_process.h"
#include "memory/testing/vm_fixture.h"

namespace thermocline::memory {
namespace {

using testing::Anatomy;
using testing::StopPoint;
using testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;
constexpr std::uint64_t limit = 48 * mib;

class VmStream : public testing::VmFixture {
  protected:
    VmStream() { EXPECT_EQ(subject_.command("fill 1 plain"), "ok"); }
    void TearDown() override {
        letAllGo();
        VmFixture::TearDown();
    }
    [[nodiscard]] VmMemory::Options options() {
        auto options = optionsFor(subject_);
        options.processEnded = [this] { ended_.set_value(); };
        return options;
    }
    /// A thread of the guest goes through all of its memory until it waits for a block; the fault thread has
    /// stopped, and reclaim stops where it has something to take.
    void stopWhereABlockIsAwaited() {
        ASSERT_NO_FATAL_FAILURE(attach(options()));
        ASSERT_TRUE(vm_->setLimit(limit));
        // Reclaim is through; else it would stop before the stream has used up any room.
        const auto headroom = HardLimitPolicy(limit).headroom();
        ASSERT_TRUE(eventually([&](const Status& now) { return now.usedBytes + headroom <= limit; }));
        reclaim_.arm();
        fault_.arm();
        ASSERT_EQ(subject_.command("start-touch-all"), "ok");
        ASSERT_TRUE(fault_.await()) << "the stream's fault did not wait for room for a block";
        ASSERT_TRUE(reclaim_.await());
    }
    void letAllGo() {
        fault_.letGo();
        reclaim_.letGo();
    }
    static bool ends(const std::future<void>& future) {
        return future.wait_for(std::chrono::seconds(30)) == std::future_status::ready;
    }

    SubjectProcess subject_{64 * mib, true};
    std::promise<void> ended_;
    StopPoint fault_{"block-awaited"};
    StopPoint reclaim_{"slot-written"};
};

TEST_F(VmStream, aDetachWhileABlockIsAwaitedBringsEveryByteBack) {
    // The stack of its thread stays with the process.
    ASSERT_EQ(subject_.command("start-touch 0"), "ok");
    ASSERT_EQ(subject_.command("join-last"), "ok");
    const Anatomy before(subject_.pid());
    ASSERT_NO_FATAL_FAILURE(stopWhereABlockIsAwaited());
    Result<void> detached;
    const auto detaching = std::async(std::launch::async, [&] { detached = vm_->detach(); });
    ASSERT_TRUE(eventually([](const Status& status) { return status.limitBytes == 0; }));
    letAllGo();
    ASSERT_TRUE(ends(detaching));
    ASSERT_TRUE(detached) << detached.error().message;
    EXPECT_EQ(subject_.command("join-last"), "ok") << "the thread that faulted";
    const auto footprint = vm_->footprint();
    vm_.reset();
    EXPECT_TRUE(cure(footprint));
    EXPECT_EQ(subject_.command("verify"), "ok 16384");
    EXPECT_EQ(Anatomy(subject_.pid()), before);
}

TEST_F(VmStream, theEndOfTheProcessIsSeenWhileABlockIsAwaited) {
    ASSERT_NO_FATAL_FAILURE(stopWhereABlockIsAwaited());
    subject_.kill();
    fault_.letGo();
    ASSERT_TRUE(ends(ended_.get_future())) << "while reclaim is still at it";
    reclaim_.letGo();
    EXPECT_EQ(vm_->status().state, "gone");
    EXPECT_EQ(vm_->detach().error().code, ErrorCode::processGone);
}

TEST_F(VmStream, anotherManagerServesTheFaultThatAwaitsABlock) {
    ASSERT_NO_FATAL_FAILURE(stopWhereABlockIsAwaited());
    ASSERT_TRUE(vm_->handOver());
    const auto footprint = vm_->footprint();
    const auto leaving = std::async(std::launch::async, [this] { vm_.reset(); });
    reclaim_.letGo();  // it is stopped before the faults are
    fault_.letGo();
    ASSERT_TRUE(ends(leaving));
    auto next = VmMemory::recover(options(), footprint);
    ASSERT_TRUE(next) << next.error().message;
    vm_ = std::move(*next);
    vm_->start();
    ASSERT_TRUE(vm_->setLimit(limit));
    EXPECT_EQ(subject_.command("join-last"), "ok") << "the thread that faulted";
    EXPECT_EQ(subject_.command("verify"), "ok 16384");
    expectDetached();
    EXPECT_EQ(subject_.command("verify"), "ok 16384");
}

}  // namespace
}  // namespace thermocline::memory
