// SPDX-License-Identifier: Apache-2.0

// The whole engine where a limit or a policy changes just as reclaim decides what the guest may use: what was
// decided for the old one must not hold for the new one.

#include <gtest/gtest.h>

#include <atomic>
#include <string_view>

#include "memory/sequence_point.h"
#include "memory/testing/subject_process.h"
#include "memory/testing/vm_fixture.h"

namespace thermocline::memory {
namespace {

using testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;

class VmLimit : public testing::VmFixture {
  protected:
    VmLimit() {
        current = this;
        sequenceListener = [](const char* point) {
            if (std::string_view(point) == "ceiling-found") current->ceilingFound();
        };
    }
    void TearDown() override {
        VmFixture::TearDown();
        sequenceListener = nullptr;
    }
    /// The limit becomes `next` just when reclaim, which has reached `first`, is about to bound the guest by
    /// that.
    void changeAsItIsReached(std::uint64_t first, std::uint64_t next) {
        first_ = first;
        next_ = next;
        ASSERT_TRUE(vm_->setLimit(first));
        ASSERT_TRUE(eventually([next](const Status& status) { return status.limitBytes == next; }));
    }

    SubjectProcess subject_{64 * mib, false};

  private:
    /// On the reclaimer's thread.
    void ceilingFound() {
        if (next_ == 0 || vm_->status().usedBytes + HardLimitPolicy(first_).headroom() > first_) return;
        EXPECT_TRUE(vm_->setLimit(next_.exchange(0)));
    }

    static inline VmLimit* current = nullptr;
    std::uint64_t first_ = 0;
    std::atomic<std::uint64_t> next_{0};
};

TEST_F(VmLimit, theGuestMayUseAllOfALimitThatIsRaisedJustAsTheOldOneIsReached) {
    ASSERT_EQ(subject_.command("fill 1 plain"), "ok");
    ASSERT_NO_FATAL_FAILURE(attach(optionsFor(subject_)));
    ASSERT_NO_FATAL_FAILURE(changeAsItIsReached(40 * mib, 60 * mib));
    subject_.send("touch 0 13000 1");
    ASSERT_TRUE(eventually([](const Status& status) { return status.usedBytes > 48 * mib; }))
        << "the guest waits for room below a limit that nobody has set";
    EXPECT_TRUE(subject_.answer().starts_with("ok"));
    EXPECT_EQ(subject_.command("verify"), "ok 16384");
    expectDetached();
}

TEST_F(VmLimit, aLimitThatWasGivenUpIsTriedAgainWhereAPolicyHasChangedMeanwhile) {
    ASSERT_EQ(subject_.command("fill 1 noise"), "ok");
    ASSERT_NO_FATAL_FAILURE(attach(optionsFor(subject_)));
    ASSERT_TRUE(vm_->setLimit(40 * mib));
    ASSERT_TRUE(eventually([](const Status& status) { return !status.limitNote.empty(); }));
    ASSERT_TRUE(
        vm_->setProactive(ProactivePolicy::Settings{.maxStall = 0.001, .minResidentBytes = 64 * mib}));
    ASSERT_TRUE(vm_->setProactive(std::nullopt));
    ASSERT_EQ(subject_.command("fill 2 plain"), "ok");
    EXPECT_TRUE(awaitLimitMet()) << vm_->status().limitNote;
    expectDetached();
    EXPECT_EQ(subject_.command("verify"), "ok 16384");
}

}  // namespace
}  // namespace thermocline::memory
