// SPDX-License-Identifier: Apache-2.0
// The life of a domain, with real processes: the VM and its manager are fakes that only sit there and talk.
#include "daemon/domain.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <optional>

#include "daemon/testing/domain_test.h"
#include "daemon/testing/fake_manager.h"

namespace thermocline {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using State = Domain::State;
using testing::DomainTest;
using testing::FakeManagerMood;
using testing::FakeVm;
using testing::mib;
using testing::uuid;

TEST_F(DomainTest, attachesAndRemembersIt) {
    makeDomain();
    EXPECT_EQ(domain_->pid(), vm_->pid());
    EXPECT_EQ(domain_->memoryBytes(), 512 * mib);
    ASSERT_TRUE(attach());
    EXPECT_EQ(domain_->state(), State::attached);
    EXPECT_EQ(domain_->status().pid, vm_->pid());
    EXPECT_EQ(domain_->status().attachPauseMicroseconds, 321U);
    EXPECT_TRUE(domain_->support().usable);
    EXPECT_EQ(probes_, 0);  // what is attached is not probed
    EXPECT_EQ(saved(), (db::Policy{true, 0}));
    struct stat info {};
    ASSERT_EQ(::stat(directory().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777U, 0700U);
    // Figures come once a second.
    EXPECT_TRUE(loop_.runUntil([&] { return domain_->status().faults == 10; }, 5s));
}

TEST_F(DomainTest, refusesASecondAttach) {
    makeDomain();
    std::optional<Result<void>> first;
    domain_->attach([&](Result<void> done) { first = std::move(done); });
    expectError(attach(), ErrorCode::busy, "is attaching");
    expectError(detach(), ErrorCode::busy, "is attaching");
    ASSERT_TRUE(loop_.runUntil([&] { return first.has_value(); }, 10s));
    EXPECT_TRUE(*first);
    expectError(attach(), ErrorCode::alreadyAttached, "attached already");
    EXPECT_EQ(domain_->state(), State::attached);
}

TEST_F(DomainTest, needsARunningDomain) {
    makeDomain();
    domain_->update({uuid, "vm", false, false, 512 * mib});
    expectError(attach(), ErrorCode::domainNotRunning, "virsh start vm");
    expectError(setLimit(100 * mib), ErrorCode::domainNotRunning, "is not running");
    expectError(clearLimit(), ErrorCode::domainNotRunning, "is not running");
    expectError(detach(), ErrorCode::notAttached, "is not attached");
    EXPECT_EQ(saved(), db::Policy{});
    EXPECT_EQ(domain_->pid(), 0);
    EXPECT_FALSE(domain_->support().usable);
    EXPECT_EQ(domain_->support().fix, "virsh start vm");
}

TEST_F(DomainTest, waitsForADomainThatIsStillArriving) {
    makeDomain();
    ASSERT_TRUE(policies_.save(uuid, "vm", {true, 0}));
    domain_ = std::make_unique<Domain>(environment_, uuid, "vm");
    domain_->update({uuid, "vm", true, true, 512 * mib});
    expectError(attach(), ErrorCode::busy, "still arriving");
    EXPECT_EQ(domain_->state(), State::detached);
    domain_->update({uuid, "vm", true, false, 512 * mib});
    EXPECT_TRUE(reaches(State::attached));
}

TEST_F(DomainTest, aRefusalLeavesNothingBehind) {
    makeDomain();
    const FakeManagerMood mood("refuse");
    expectError(attach(), ErrorCode::notSupported, "locked memory; remove <locked/>");
    EXPECT_EQ(domain_->state(), State::detached);
    EXPECT_EQ(saved(), db::Policy{});
    EXPECT_FALSE(std::filesystem::exists(directory()));
    EXPECT_EQ(domain_->support().reason, "locked");
    EXPECT_EQ(domain_->support().fix, "remove <locked/>");
    (void)domain_->support();
    EXPECT_EQ(probes_, 1);  // not looked at again at once
}

TEST_F(DomainTest, aManagerThatDiesHalfwayIsCuredAway) {
    makeDomain();
    const FakeManagerMood mood("die");
    expectError(attach(), ErrorCode::internal, "exited with status 9 before it was ready");
    EXPECT_EQ(domain_->state(), State::detached);
    EXPECT_FALSE(std::filesystem::exists(directory()));
    EXPECT_EQ(saved(), db::Policy{});
}

TEST_F(DomainTest, aManagerThatTalksNonsenseIsCuredAway) {
    makeDomain();
    const FakeManagerMood mood("garbage");
    expectError(attach(), ErrorCode::internal, "before it was ready");
    EXPECT_EQ(domain_->state(), State::detached);
}

TEST_F(DomainTest, aManagerThatIsSilentIsKilled) {
    makeDomain();
    const FakeManagerMood mood("silent");
    expectError(attach(), ErrorCode::internal, "did not get ready in time");
    EXPECT_EQ(domain_->state(), State::detached);
}

TEST_F(DomainTest, whatCannotBeCuredIsFailedUntilTheVmEnds) {
    makeDomain();
    {
        const FakeManagerMood mood("die,cure-refuses");
        expectError(attach(), ErrorCode::internal, "before it was ready");
    }
    EXPECT_EQ(domain_->state(), State::failed);
    EXPECT_THAT(domain_->stateNote(), HasSubstr("100 pages are still cold"));
    EXPECT_TRUE(std::filesystem::exists(directory()));
    {
        const FakeManagerMood mood("recover-refuses");
        expectError(attach(), ErrorCode::notSupported, "lost with the key");
    }
    EXPECT_EQ(domain_->state(), State::failed);
    vm_->end();
    EXPECT_TRUE(reaches(State::detached));
    EXPECT_FALSE(std::filesystem::exists(directory()));
}

TEST_F(DomainTest, aMissingManagerIsAnError) {
    ManagerProcesses missing(loop_, temporary_.path() / "no-such-program", 2s);
    Domain::Environment environment{
        loop_, missing, policies_, processes_, runtime_, environment_.probe, environment_.changed, 500ms};
    domain_ = std::make_unique<Domain>(environment, uuid, "vm");
    domain_->update({uuid, "vm", true, false, 512 * mib});
    expectError(attach(), ErrorCode::systemError, "no-such-program");
    EXPECT_EQ(domain_->state(), State::detached);
    EXPECT_FALSE(std::filesystem::exists(directory()));
    domain_.reset();
}

TEST_F(DomainTest, limitsAreCheckedSavedAndApplied) {
    makeDomain();
    expectError(setLimit(100 * mib), ErrorCode::notAttached, "thermoctl attach vm");
    ASSERT_TRUE(attach());
    expectError(setLimit(0), ErrorCode::invalidLimit, "thermoctl limit vm none");
    expectError(setLimit(32 * mib - 1), ErrorCode::invalidLimit, "below the floor of vm, which is 32.0 MiB");
    expectError(setLimit(512 * mib + 1), ErrorCode::invalidLimit, "above the RAM of vm, which is 512.0 MiB");
    expectError(setLimit(UINT64_MAX), ErrorCode::invalidLimit, "above the RAM");
    EXPECT_EQ(saved(), (db::Policy{true, 0}));
    EXPECT_EQ(domain_->limitBytes(), 0U);
    EXPECT_TRUE(setLimit(512 * mib));
    EXPECT_TRUE(setLimit(32 * mib));
    EXPECT_EQ(domain_->limitBytes(), 32 * mib);
    EXPECT_EQ(domain_->status().coldBytes, 480 * mib);
    EXPECT_EQ(saved(), (db::Policy{true, 32 * mib}));
    EXPECT_TRUE(clearLimit());
    EXPECT_EQ(domain_->limitBytes(), 0U);
    EXPECT_EQ(saved(), (db::Policy{true, 0}));
}

TEST_F(DomainTest, aLimitThatTheManagerRefusesIsNotKept) {
    makeDomain();
    const FakeManagerMood mood("limit-fails");
    ASSERT_TRUE(attach());
    expectError(setLimit(64 * mib), ErrorCode::invalidLimit, "the manager does not like it");
    EXPECT_EQ(saved(), (db::Policy{true, 0}));
}

TEST_F(DomainTest, theProactivePolicyIsSavedAndApplied) {
    makeDomain();
    expectError(setProactive(0.005), ErrorCode::notAttached, "thermoctl attach vm");
    expectError(setProactive(0), ErrorCode::notAttached, "thermoctl attach vm");
    ASSERT_TRUE(attach());
    ASSERT_TRUE(setLimit(64 * mib));
    ASSERT_TRUE(setProactive(0.005, 100 * mib));
    EXPECT_EQ(domain_->status().proactiveMaxStall, 0.005);
    EXPECT_EQ(domain_->proactive(), (db::ProactivePolicy{0.005, 100 * mib}));
    EXPECT_EQ(saved(), (db::Policy{true, 64 * mib, {0.005, 100 * mib}}));
    ASSERT_TRUE(clearLimit());  // neither touches the other
    EXPECT_EQ(saved(), (db::Policy{true, 0, {0.005, 100 * mib}}));
    ASSERT_TRUE(setProactive(0, 100 * mib));
    EXPECT_EQ(domain_->proactive(), db::ProactivePolicy{});
    EXPECT_EQ(saved(), (db::Policy{true, 0}));
    ASSERT_TRUE(setProactive(0.5));
    ASSERT_TRUE(detach());
    EXPECT_EQ(saved(), db::Policy{});
    EXPECT_EQ(domain_->proactive(), db::ProactivePolicy{});
}

TEST_F(DomainTest, aStallThatTheManagerRefusesIsNotKept) {
    makeDomain();
    ASSERT_TRUE(attach());
    ASSERT_TRUE(setProactive(0.25, mib));
    expectError(setProactive(0.7), ErrorCode::invalidArgument, "the manager does not like this stall");
    EXPECT_EQ(saved(), (db::Policy{true, 0, {0.25, mib}}));
    EXPECT_EQ(domain_->proactive(), (db::ProactivePolicy{0.25, mib}));
    for (const double odd :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
        expectError(setProactive(odd), ErrorCode::invalidArgument, "is no share of time");
}

TEST_F(DomainTest, aRefusalPutsBackNothingOfAnotherRequest) {
    makeDomain();
    ASSERT_TRUE(attach());
    std::optional<Result<void>> refused;
    domain_->setProactive(0.7, 0, [&](Result<void> done) { refused = std::move(done); });
    ASSERT_FALSE(refused.has_value());
    ASSERT_TRUE(setLimit(64 * mib));  // asked while the other is under way
    ASSERT_TRUE(loop_.runUntil([&] { return refused.has_value(); }, 10s));
    expectError(*refused, ErrorCode::invalidArgument, "does not like");
    EXPECT_EQ(saved(), (db::Policy{true, 64 * mib}));
}

TEST_F(DomainTest, tellsItsManagerOfTheFileTierAndClosesIt) {
    makeDomain();
    expectError(closeFileTier(), ErrorCode::notAttached, "thermoctl attach vm");
    ASSERT_TRUE(attach());
    std::ifstream file(fmt::format("/proc/{}/cmdline", managerPid()));
    std::string words((std::istreambuf_iterator<char>(file)), {});
    std::replace(words.begin(), words.end(), '\0', ' ');
    EXPECT_THAT(words, HasSubstr(" --file-tier-dir /disk --file-tier-max 5242880 --file-tier-age 0.5 "));
    EXPECT_EQ(domain_->status().fileTier, "open");
    EXPECT_EQ(domain_->status().frozenBytes, 8 * mib);
    ASSERT_TRUE(closeFileTier());
    EXPECT_EQ(domain_->status().fileTier, "switched off");
    EXPECT_EQ(domain_->status().frozenBytes, 0U);
    EXPECT_EQ(saved(), (db::Policy{true, 0}));
}

TEST_F(DomainTest, tellsItsManagerOfThePolicyAndShowsWhatBecameOfIt) {
    ManagerProcesses managers(loop_, THERMOCLINE_FAKE_MANAGER, 2s, {},
                              {"/policies/p.so", {"a=1", "b=2 3"}, "/policies"});
    Domain::Environment environment{
        loop_, managers, policies_, processes_, runtime_, environment_.probe, environment_.changed, 500ms};
    domain_ = std::make_unique<Domain>(environment, uuid, "vm");
    domain_->update({uuid, "vm", true, false, 512 * mib});
    EXPECT_TRUE(attach());
    std::ifstream file(fmt::format("/proc/{}/cmdline", managerPid()));
    std::string words((std::istreambuf_iterator<char>(file)), {});
    std::replace(words.begin(), words.end(), '\0', '|');
    EXPECT_THAT(words, HasSubstr("|--policy|/policies/p.so|--policy-option|a=1|--policy-option|b=2 3|"
                                 "--policy-dir|/policies|"));
    EXPECT_EQ(domain_->status().policy, "clock");
    EXPECT_EQ(domain_->status().policyNote, "policy \"p\" is switched off");
    EXPECT_TRUE(detach());
    EXPECT_EQ(domain_->status().policy, "");
    domain_.reset();
}

TEST_F(DomainTest, withoutAFileTierThereIsNoneToClose) {
    ManagerProcesses managers(loop_, THERMOCLINE_FAKE_MANAGER, 2s);
    Domain::Environment environment{
        loop_, managers, policies_, processes_, runtime_, environment_.probe, environment_.changed, 500ms};
    domain_ = std::make_unique<Domain>(environment, uuid, "vm");
    domain_->update({uuid, "vm", true, false, 512 * mib});
    EXPECT_TRUE(attach());
    EXPECT_EQ(domain_->status().fileTier, "");
    expectError(closeFileTier(), ErrorCode::notSupported, "has no file tier");
    EXPECT_TRUE(detach());
    domain_.reset();
}

TEST_F(DomainTest, theProactivePolicyReturnsWithTheDomain) {
    ASSERT_TRUE(policies_.save(uuid, "vm", {true, 64 * mib, {0.01, 2 * mib}}));
    makeDomain();
    EXPECT_EQ(domain_->proactive(), (db::ProactivePolicy{0.01, 2 * mib}));
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_EQ(domain_->limitBytes(), 64 * mib);
    EXPECT_EQ(domain_->status().proactiveMaxStall, 0.01);  // at once, like the limit
    EXPECT_EQ(domain_->status().minResidentBytes, 2 * mib);
    EXPECT_EQ(domain_->stateNote(), "");
    restartDaemon();
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_EQ(domain_->proactive(), (db::ProactivePolicy{0.01, 2 * mib}));
    vm_->end();
    domain_->update({uuid, "vm", false, false, 512 * mib});
    ASSERT_TRUE(reaches(State::detached));
    EXPECT_EQ(domain_->proactive(), (db::ProactivePolicy{0.01, 2 * mib}));
    expectError(setProactive(0.02), ErrorCode::domainNotRunning, "is not running");
    EXPECT_TRUE(setProactive(0));  // what is kept can be dropped while the VM is off
    EXPECT_EQ(saved(), (db::Policy{true, 64 * mib}));
}

TEST_F(DomainTest, aSavedStallThatTheManagerRefusesIsTold) {
    ASSERT_TRUE(policies_.save(uuid, "vm", {true, 64 * mib, {0.01, 0}}));
    const FakeManagerMood mood("limit-fails,stall-fails");
    makeDomain();
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_EQ(domain_->stateNote(),
              "the saved limit is not applied: the manager does not like it; the saved proactive policy is "
              "not applied: the manager does not like this stall");
}

TEST_F(DomainTest, heatNeedsAManager) {
    makeDomain();
    std::optional<Result<memory::HeatMap>> map;
    const auto ask = [&] {
        map.reset();
        domain_->heat(2, [&](Result<memory::HeatMap> result) { map = std::move(result); });
        return loop_.runUntil([&] { return map.has_value(); }, 10s);
    };
    ASSERT_TRUE(ask());
    EXPECT_EQ(map->error().code, ErrorCode::notAttached);
    ASSERT_TRUE(attach());
    ASSERT_TRUE(ask());
    ASSERT_TRUE(*map);
    EXPECT_EQ((*map)->pieces.size(), 2U);
    EXPECT_EQ((*map)->workingSetBytes, 3 * mib);
}

TEST_F(DomainTest, whatCannotBeSavedIsNotDone) {
    makeDomain();
    ASSERT_TRUE(database_.execute("PRAGMA query_only = ON"));
    expectError(attach(), ErrorCode::databaseError, "thermocline.db");
    EXPECT_EQ(domain_->state(), State::detached);
    EXPECT_FALSE(domain_->managed());
    ASSERT_TRUE(database_.execute("PRAGMA query_only = OFF"));
    ASSERT_TRUE(attach());
    ASSERT_TRUE(setLimit(64 * mib));
    ASSERT_TRUE(database_.execute("PRAGMA query_only = ON"));
    expectError(setLimit(128 * mib), ErrorCode::databaseError, "thermocline.db");
    expectError(clearLimit(), ErrorCode::databaseError, "thermocline.db");
    expectError(setProactive(0.01), ErrorCode::databaseError, "thermocline.db");
    expectError(detach(), ErrorCode::databaseError, "thermocline.db");
    EXPECT_EQ(domain_->state(), State::attached);
    EXPECT_EQ(domain_->limitBytes(), 64 * mib);
    EXPECT_EQ(domain_->status().proactiveMaxStall, 0);
}

TEST_F(DomainTest, detachesAndForgets) {
    makeDomain();
    ASSERT_TRUE(attach());
    ASSERT_TRUE(setLimit(64 * mib));
    const auto manager = openPidfd(managerPid());
    ASSERT_TRUE(manager);
    ASSERT_TRUE(detach());
    EXPECT_EQ(domain_->state(), State::detached);
    EXPECT_TRUE(hasEnded(*manager));
    EXPECT_FALSE(std::filesystem::exists(directory()));
    EXPECT_EQ(saved(), db::Policy{});
    EXPECT_EQ(domain_->status().residentBytes, 0U);
    expectError(detach(), ErrorCode::notAttached, "is not attached");
    EXPECT_TRUE(attach());  // and again
    EXPECT_EQ(domain_->limitBytes(), 0U);
}

TEST_F(DomainTest, aDetachThatFailsChangesNothing) {
    makeDomain();
    const FakeManagerMood mood("detach-fails");
    ASSERT_TRUE(attach());
    ASSERT_TRUE(setLimit(64 * mib));
    expectError(detach(), ErrorCode::outOfMemory, "has not the memory");
    EXPECT_EQ(domain_->state(), State::attached);
    EXPECT_EQ(domain_->limitBytes(), 64 * mib);
    EXPECT_EQ(saved(), (db::Policy{true, 64 * mib}));
}

TEST_F(DomainTest, aVmThatEndsDuringTheDetachIsDetached) {
    makeDomain();
    const FakeManagerMood mood("detach-hangs");
    ASSERT_TRUE(attach());
    std::optional<Result<void>> detached;
    domain_->detach([&](Result<void> done) { detached = std::move(done); });
    EXPECT_EQ(domain_->state(), State::detaching);
    expectError(setLimit(64 * mib), ErrorCode::busy, "is detaching");
    vm_->end();
    ASSERT_TRUE(loop_.runUntil([&] { return detached.has_value(); }, 10s));
    EXPECT_TRUE(*detached);
    EXPECT_EQ(domain_->state(), State::detached);
}

TEST_F(DomainTest, theEndOfTheVmClearsUp) {
    makeDomain();
    ASSERT_TRUE(attach());
    domain_->update({uuid, "vm", false, false, 512 * mib});
    EXPECT_EQ(domain_->state(), State::attached);  // libvirt may be early: the process decides
    vm_->end();
    ASSERT_TRUE(reaches(State::detached));
    EXPECT_FALSE(std::filesystem::exists(directory()));
    EXPECT_EQ(saved(), (db::Policy{true, 0}));
    EXPECT_TRUE(domain_->idle());
}

TEST_F(DomainTest, aManagerThatOutlivesItsVmIsEnded) {
    makeDomain();
    const FakeManagerMood mood("lingers");
    ASSERT_TRUE(attach());
    const auto manager = openPidfd(managerPid());
    ASSERT_TRUE(manager);
    vm_->end();
    ASSERT_TRUE(reaches(State::detached));
    EXPECT_TRUE(hasEnded(*manager));
}

TEST_F(DomainTest, aCrashedManagerIsFollowedByAnotherAndAllIsAsBefore) {
    makeDomain();
    ASSERT_TRUE(attach());
    ASSERT_TRUE(setLimit(64 * mib));
    ASSERT_TRUE(setProactive(0.01));
    for (int crash = 0; crash < 2; ++crash) {
        const auto manager = managerPid();
        ::kill(manager, SIGKILL);
        ASSERT_TRUE(reaches(State::recovering));
        EXPECT_THAT(domain_->stateNote(), HasSubstr("crashed"));
        expectError(setLimit(80 * mib), ErrorCode::busy, "recovering");
        expectError(attach(), ErrorCode::busy, "recovering");
        expectError(detach(), ErrorCode::busy, "recovering");
        ASSERT_TRUE(reaches(State::attached));
        EXPECT_NE(managerPid(), manager);
        EXPECT_EQ(domain_->stateNote(), "");
        EXPECT_EQ(domain_->status().limitBytes, 64 * mib);
        EXPECT_EQ(domain_->status().proactiveMaxStall, 0.01);
    }
    ASSERT_TRUE(detach());
    EXPECT_FALSE(std::filesystem::exists(directory()));
}

TEST_F(DomainTest, managersThatDieWhileTheyRecoverAreFollowedSoOftenAndNoMore) {
    environment_.mostRecoveries = 3;
    environment_.recoveryPause = 1ms;
    makeDomain();
    ASSERT_TRUE(attach());
    {
        const FakeManagerMood mood("recover-dies");
        ::kill(managerPid(), SIGKILL);
        ASSERT_TRUE(reaches(State::failed));
        EXPECT_THAT(domain_->stateNote(), HasSubstr("4 times within a short time"));
        EXPECT_TRUE(std::filesystem::exists(directory() / "arena"));
        expectError(attach(), ErrorCode::processGone, "4 times");
        EXPECT_EQ(domain_->state(), State::failed);
    }
    ASSERT_TRUE(attach());
    EXPECT_EQ(domain_->state(), State::attached);
}

TEST_F(DomainTest, aManagerThatDiedAtTheEndOfADetachIsCuredAway) {
    makeDomain();
    ASSERT_TRUE(attach());
    const FakeManagerMood mood("recover-cured");
    ::kill(managerPid(), SIGKILL);
    ASSERT_TRUE(reaches(State::detached));
    EXPECT_FALSE(std::filesystem::exists(directory()));
}

TEST_F(DomainTest, aManagerThatAnEarlierDaemonHadRecoverIsFound) {
    makeDomain();
    ASSERT_TRUE(attach());
    const pid_t manager = managerPid();
    const auto socket = directory() / manager::socketFileName;
    const auto aside = directory() / "not-listening-yet";
    std::filesystem::rename(socket, aside);
    const FakeManagerMood mood("recover-late");
    restartDaemon();
    EXPECT_EQ(domain_->state(), State::recovering);
    std::filesystem::rename(aside, socket);
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_EQ(managerPid(), manager);
}

TEST_F(DomainTest, aVmThatEndsWhileItIsRecoveredIsDetached) {
    environment_.recoveryPause = 1h;
    makeDomain();
    ASSERT_TRUE(attach());
    const FakeManagerMood mood("recover-dies");
    ::kill(managerPid(), SIGKILL);
    ASSERT_TRUE(reaches(State::recovering));
    vm_->end();
    ASSERT_TRUE(reaches(State::detached));
    EXPECT_FALSE(std::filesystem::exists(directory()));
}

TEST_F(DomainTest, theFilesOfAManagerThatCannotBeFollowedAreKept) {
    makeDomain();
    ASSERT_TRUE(attach());
    {
        const FakeManagerMood mood("recover-refuses");
        ::kill(managerPid(), SIGKILL);
        ASSERT_TRUE(reaches(State::failed));
    }
    EXPECT_THAT(domain_->stateNote(), HasSubstr("lost with the key"));
    EXPECT_TRUE(std::filesystem::exists(directory() / "arena"));
    expectError(setLimit(64 * mib), ErrorCode::notAttached, "crashed");
    {
        const FakeManagerMood mood("cure-refuses");
        expectError(detach(), ErrorCode::systemError, "100 pages are still cold");
        EXPECT_EQ(domain_->state(), State::failed);
        EXPECT_TRUE(std::filesystem::exists(directory() / "arena"));
        EXPECT_EQ(saved(), (db::Policy{true, 0}));
    }
    ASSERT_TRUE(detach());
    EXPECT_EQ(domain_->state(), State::detached);
    EXPECT_FALSE(std::filesystem::exists(directory()));
}

TEST_F(DomainTest, theNextDaemonFindsTheManagerAgain) {
    makeDomain();
    ASSERT_TRUE(attach());
    ASSERT_TRUE(setLimit(64 * mib));
    const pid_t manager = managerPid();
    restartDaemon();
    EXPECT_EQ(domain_->state(), State::attaching);
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_EQ(managerPid(), manager);
    EXPECT_EQ(domain_->limitBytes(), 64 * mib);
    EXPECT_TRUE(detach());
    EXPECT_FALSE(std::filesystem::exists(directory()));
}

TEST_F(DomainTest, theNextDaemonClearsUpAfterADeadVm) {
    makeDomain();
    ASSERT_TRUE(attach());
    const auto manager = openPidfd(managerPid());
    domain_.reset();
    vm_->end();
    ASSERT_TRUE(loop_.runUntil([&] { return hasEnded(*manager); }, 5s) || hasEnded(*manager));
    domain_ = std::make_unique<Domain>(environment_, uuid, "vm");
    domain_->adopt(runtime_.domains().at(0));
    EXPECT_EQ(domain_->state(), State::detached);
    EXPECT_FALSE(std::filesystem::exists(directory()));
}

TEST_F(DomainTest, theNextDaemonDealsWithACrashItDidNotSee) {
    makeDomain();
    ASSERT_TRUE(attach());
    const auto pid = managerPid();
    const auto manager = openPidfd(pid);
    domain_.reset();
    ::kill(pid, SIGKILL);
    ASSERT_TRUE(manager && (hasEnded(*manager) || loop_.runUntil([&] { return hasEnded(*manager); }, 5s)));
    {
        const FakeManagerMood mood("recover-refuses");
        restartDaemon();
        ASSERT_TRUE(reaches(State::failed));
        EXPECT_TRUE(std::filesystem::exists(directory() / "arena"));
    }
    restartDaemon();
    EXPECT_EQ(domain_->state(), State::recovering);
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_TRUE(std::filesystem::exists(directory() / "arena"));
    EXPECT_TRUE(detach());
    EXPECT_FALSE(std::filesystem::exists(directory()));
}

TEST_F(DomainTest, thePolicyIsAppliedWheneverTheDomainStarts) {
    ASSERT_TRUE(policies_.save(uuid, "vm", {true, 64 * mib}));
    makeDomain();
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_EQ(domain_->limitBytes(), 64 * mib);  // at once: whoever sees "attached" sees the limit
    const pid_t first = domain_->pid();
    vm_->end();
    domain_->update({uuid, "vm", false, false, 512 * mib});
    ASSERT_TRUE(reaches(State::detached));
    EXPECT_EQ(domain_->limitBytes(), 64 * mib);
    startVm();
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_NE(domain_->pid(), first);
    EXPECT_EQ(domain_->limitBytes(), 64 * mib);
}

TEST_F(DomainTest, aRestartThatIsSeenLateIsAttachedToTheNewProcess) {
    makeDomain();
    ASSERT_TRUE(attach());
    const pid_t first = vm_->pid();
    vm_->end();
    vm_ = std::make_unique<FakeVm>(uuid);  // libvirt never said that it stopped
    domain_->update({uuid, "vm", true, false, 512 * mib});
    ASSERT_TRUE(
        loop_.runUntil([&] { return domain_->state() == State::attached && domain_->pid() != first; }, 10s));
    EXPECT_EQ(domain_->pid(), vm_->pid());
}

TEST_F(DomainTest, anAutomaticAttachThatCannotWorkIsToldOnce) {
    ASSERT_TRUE(policies_.save(uuid, "vm", {true, 0}));
    const FakeManagerMood mood("refuse");
    makeDomain();
    ASSERT_TRUE(loop_.runUntil([&] { return !domain_->stateNote().empty(); }, 10s));
    EXPECT_EQ(domain_->state(), State::detached);
    EXPECT_THAT(domain_->stateNote(), HasSubstr("remove <locked/>"));
    EXPECT_TRUE(domain_->managed());
    domain_->update({uuid, "vm", true, false, 511 * mib});
    EXPECT_EQ(domain_->state(), State::detached);  // not tried again before it starts again
    ASSERT_TRUE(detach());                         // the policy can be dropped all the same
    EXPECT_FALSE(domain_->managed());
    EXPECT_EQ(domain_->stateNote(), "");
}

TEST_F(DomainTest, aSavedLimitThatDoesNotFitIsTold) {
    ASSERT_TRUE(policies_.save(uuid, "vm", {true, 64 * mib}));
    const FakeManagerMood mood("limit-fails");
    makeDomain();
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_THAT(domain_->stateNote(),
                HasSubstr("the saved limit is not applied: the manager does not like it"));
}

TEST_F(DomainTest, aKeptLimitCanBeDroppedWhileTheVmIsOff) {
    ASSERT_TRUE(policies_.save(uuid, "vm", {true, 64 * mib}));
    domain_ = std::make_unique<Domain>(environment_, uuid, "vm");
    EXPECT_EQ(domain_->limitBytes(), 64 * mib);
    EXPECT_TRUE(clearLimit());
    EXPECT_EQ(saved(), (db::Policy{true, 0}));
    EXPECT_TRUE(detach());
    EXPECT_EQ(saved(), db::Policy{});
}

TEST_F(DomainTest, anAllotmentBoundsItWithoutBeingItsLimit) {
    makeDomain();
    domain_->setAllotment(100 * mib, "not attached");
    ASSERT_TRUE(attach());
    EXPECT_EQ(domain_->limitBytes(), 0U);
    domain_->setAllotment(200 * mib, "of 300 MiB");
    ASSERT_TRUE(loop_.runUntil([&] { return domain_->limitBytes() == 200 * mib; }, 10s));
    EXPECT_THAT(domain_->limitNote(), HasSubstr("the host's budget leaves it 200.0 MiB: of 300 MiB"));
    EXPECT_EQ(saved(), (db::Policy{true, 0}));
    EXPECT_EQ(domain_->ceiling(), 0U);

    // Its own limit holds where it is lower, and is what is remembered.
    ASSERT_TRUE(setLimit(150 * mib));
    EXPECT_EQ(domain_->limitBytes(), 150 * mib);
    EXPECT_EQ(domain_->limitNote(), "");
    EXPECT_EQ(domain_->ceiling(), 150 * mib);
    ASSERT_TRUE(setLimit(300 * mib));
    EXPECT_EQ(domain_->limitBytes(), 200 * mib);
    EXPECT_EQ(saved().limitBytes, 300 * mib);
    // And libvirt's.
    DomainInfo info{uuid, "vm", true, false, 512 * mib};
    info.hardLimitBytes = 120 * mib;
    domain_->update(info);
    ASSERT_TRUE(loop_.runUntil([&] { return domain_->limitBytes() == 120 * mib; }, 10s));
    EXPECT_EQ(domain_->ceiling(), 120 * mib);
    info.hardLimitBytes = 0;
    domain_->update(info);
    domain_->setAllotment(0, {});
    ASSERT_TRUE(loop_.runUntil([&] { return domain_->limitBytes() == 300 * mib; }, 10s));
    ASSERT_TRUE(clearLimit());
    EXPECT_EQ(domain_->limitBytes(), 0U);
}

TEST_F(DomainTest, theNextDaemonLetsNobodyOffBeforeItsArbiterHasLooked) {
    makeDomain();
    ASSERT_TRUE(attach());
    domain_->setAllotment(200 * mib, "why");
    ASSERT_TRUE(loop_.runUntil([&] { return domain_->limitBytes() == 200 * mib; }, 10s));
    environment_.budgeted = [] { return true; };
    restartDaemon();
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_EQ(domain_->limitBytes(), 200 * mib);
    EXPECT_EQ(domain_->allotment(), 200 * mib);
    environment_.budgeted = [] { return false; };
    restartDaemon();
    ASSERT_TRUE(reaches(State::attached));
    EXPECT_EQ(domain_->limitBytes(), 0U);
}

TEST_F(DomainTest, aPriorityIsThatOfAManagedDomain) {
    makeDomain();
    const auto set = [&](std::uint32_t priority) {
        return finish([&](Domain::Done done) { domain_->setPriority(priority, std::move(done)); });
    };
    expectError(set(200), ErrorCode::notAttached, "thermoctl attach vm");
    ASSERT_TRUE(attach());
    EXPECT_EQ(domain_->priority(), 100U);
    expectError(set(0), ErrorCode::invalidArgument, "from 1 to 1000");
    expectError(set(1001), ErrorCode::invalidArgument, "from 1 to 1000");
    ASSERT_TRUE(set(200));
    EXPECT_EQ(domain_->priority(), 200U);
    EXPECT_EQ(saved().priority, 200U);
    ASSERT_TRUE(detach());
    EXPECT_EQ(saved(), db::Policy{});
}

TEST_F(DomainTest, aVmWhoseMemoryIsLostIsPausedOnceAndSaysWhy) {
    std::vector<std::function<void(Result<void>)>> asked;
    environment_.suspend = [&](const std::string& which, std::function<void(Result<void>)> done) {
        EXPECT_EQ(which, uuid);
        asked.push_back(std::move(done));
    };
    const FakeManagerMood mood("loses");
    makeDomain();
    ASSERT_TRUE(attach());
    ASSERT_TRUE(setLimit(256 * mib));
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_EQ(domain_->state(), Domain::State::attached);
    EXPECT_THAT(domain_->stateNote(), HasSubstr("page 7 cannot be brought back: damaged"));
    EXPECT_THAT(domain_->stateNote(), HasSubstr("is being paused"));
    const int before = changes_;
    asked[0]({});
    EXPECT_THAT(domain_->stateNote(), HasSubstr("it was paused"));
    EXPECT_THAT(domain_->stateNote(), HasSubstr("virsh resume vm"));
    EXPECT_GT(changes_, before);
    ASSERT_TRUE(setLimit(128 * mib));
    EXPECT_EQ(asked.size(), 1U) << "who resumes it is not contradicted";
    vm_->end();
    ASSERT_TRUE(reaches(Domain::State::detached));
    EXPECT_EQ(domain_->stateNote(), "");
}

TEST_F(DomainTest, aVmThatCannotBePausedSaysSo) {
    environment_.suspend = [](const std::string&, std::function<void(Result<void>)> done) {
        done(fail(ErrorCode::hypervisorUnavailable, "libvirtd is away"));
    };
    const FakeManagerMood mood("loses");
    makeDomain();
    ASSERT_TRUE(attach());
    ASSERT_TRUE(setLimit(256 * mib));
    EXPECT_THAT(domain_->stateNote(), HasSubstr("could not pause it: libvirtd is away"));
}

}  // namespace
}  // namespace thermocline
