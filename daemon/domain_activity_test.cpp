// SPDX-License-Identifier: Apache-2.0

// A Domain's manager is told what its VM does, and is replaced where it is not the installed one.
#include "daemon/testing/domain_test.h"
#include "daemon/testing/fake_manager.h"
#include "daemon/turns.h"

namespace thermocline {
namespace {

using memory::Activity;
using testing::FakeManagerMood;
using ::testing::HasSubstr;
using testing::uuid;
using State = Domain::State;
constexpr std::uint64_t mib = 1 << 20;

class DomainActivityTest : public testing::DomainTest {
  protected:
    void does(Activity activity) {
        DomainInfo info{uuid, "vm", true, false, 512 * mib};
        info.activity = activity;
        domain_->update(info);
    }
    bool told(std::string_view activity) {
        return loop_.runUntil([&] { return domain_->activity() == activity; }, patience);
    }
    Result<void> freezePaused(std::uint32_t seconds) {
        return finish([&](Domain::Done done) { domain_->setFreezePaused(seconds, std::move(done)); });
    }
};

TEST_F(DomainActivityTest, theManagerHearsOfACopyAndOfItsEnd) {
    makeDomain();
    does(Activity::copiedOut);
    ASSERT_TRUE(attach());
    ASSERT_TRUE(told("copied-out"));
    does(Activity::running);
    ASSERT_TRUE(told("running"));
}

TEST_F(DomainActivityTest, aPauseCountsOnceItIsLongEnoughAndFromItsBeginning) {
    makeDomain();
    ASSERT_TRUE(attach());
    does(Activity::paused);
    expectError(freezePaused(365 * 86400), ErrorCode::invalidArgument, "too long");
    ASSERT_TRUE(freezePaused(3600));
    EXPECT_EQ(saved().freezePausedSeconds, 3600U);
    EXPECT_EQ(domain_->activity(), "running");
    ASSERT_TRUE(freezePaused(1));
    ASSERT_TRUE(told("paused"));
    // Another daemon does not count anew.
    restartDaemon();
    ASSERT_TRUE(reaches(State::attached));
    ASSERT_TRUE(freezePaused(3600));
    does(Activity::paused);
    ASSERT_TRUE(told("paused"));
    does(Activity::copiedOut);
    ASSERT_TRUE(told("copied-out"));
    does(Activity::paused);
    ASSERT_TRUE(told("running"));
}

TEST_F(DomainActivityTest, whatIsNotManagedIsNotFrozen) {
    makeDomain();
    expectError(freezePaused(5), ErrorCode::notAttached, "thermoctl attach vm");
}

TEST_F(DomainActivityTest, aManagerThatDoesNotKnowOfItIsLeftInPeace) {
    const FakeManagerMood mood("older");
    makeDomain();
    does(Activity::copiedOut);
    ASSERT_TRUE(attach());
    EXPECT_EQ(domain_->activity(), "");
    ASSERT_TRUE(setLimit(80 * mib));
}

TEST_F(DomainActivityTest, aProcessThatHasEndedIsNotLookedForElsewhere) {
    makeDomain();
    DomainInfo info{uuid, "vm", true, false, 512 * mib};
    info.id = 7;
    domain_->update(info);
    ASSERT_TRUE(attach());
    vm_->end();
    ASSERT_TRUE(reaches(State::detached));
    vm_ = std::make_unique<testing::FakeVm>(uuid);  // where it was migrated to, say
    domain_->update(info);
    EXPECT_FALSE(
        loop_.runUntil([&] { return domain_->state() != State::detached; }, std::chrono::milliseconds(50)));
    info.id = 8;
    domain_->update(info);
    ASSERT_TRUE(reaches(State::attached));
}

class DomainUpgradeTest : public testing::DomainTest {
  protected:
    // The fakes are scripts: what runs is an interpreter, and not the installed program.
    DomainUpgradeTest() { environment_.replacements = &turns_; }

    Turns turns_{loop_};
};

TEST_F(DomainUpgradeTest, aManagerOfAnotherProgramIsReplaced) {
    makeDomain();
    ASSERT_TRUE(attach());
    ASSERT_TRUE(setLimit(80 * mib));
    const auto before = managerPid();
    restartDaemon();
    ASSERT_TRUE(reaches(State::recovering));
    expectError(setLimit(90 * mib), ErrorCode::busy, "recovering");
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_NE(managerPid(), before);
    EXPECT_EQ(domain_->limitBytes(), 80 * mib);
    EXPECT_EQ(domain_->stateNote(), "");
    bool myTurn = false;
    turns_.ask([&](const auto& over) {
        myTurn = true;
        over();
    });
    EXPECT_TRUE(loop_.runUntil([&] { return myTurn; }, patience));
}

TEST_F(DomainUpgradeTest, aManagerThatCannotHandOverStays) {
    const FakeManagerMood mood("keeps");
    makeDomain();
    ASSERT_TRUE(attach());
    const auto before = managerPid();
    restartDaemon();
    ASSERT_TRUE(loop_.runUntil(
        [&] { return !domain_->stateNote().empty() && domain_->state() == State::attached; }, patience));
    EXPECT_THAT(domain_->stateNote(), HasSubstr("nobody could go on"));
    EXPECT_EQ(managerPid(), before);
    ASSERT_TRUE(setLimit(80 * mib));
}

TEST_F(DomainUpgradeTest, aProgramThatDoesNotUnderstandWhatIsThereIsNotLetNearIt) {
    makeDomain();
    ASSERT_TRUE(attach());
    const auto before = managerPid();
    const FakeManagerMood mood("probe-fails");
    restartDaemon();
    ASSERT_TRUE(loop_.runUntil([&] { return !domain_->stateNote().empty(); }, patience));
    EXPECT_THAT(domain_->stateNote(), HasSubstr("of another version"));
    EXPECT_EQ(domain_->state(), State::attached);
    EXPECT_EQ(managerPid(), before);
}

}  // namespace
}  // namespace thermocline
