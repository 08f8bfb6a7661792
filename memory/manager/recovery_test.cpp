// SPDX-License-Identifier: Apache-2.0

// Managers that are killed at every instant that could matter, over a process that checks all of its bytes
// all the time; another one goes on.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "memory/attachment.h"
#include "memory/manager/testing_vm.h"
#include "memory/testing/anatomy.h"
#include "memory/testing/awaiting.h"
#include "memory/testing/manager_child.h"
#include "memory/testing/subject_process.h"

namespace thermocline::manager {
namespace {

using memory::testing::Anatomy;
using memory::testing::ManagerChild;
using testing::mib;
using testing::pages;
using testing::ramMib;
using testing::Vm;

struct Point {
    const char* name;
    int pass;
    bool huge;
    bool calm = false;  ///< nothing splits huge pages before
    bool tier = false;  ///< with a file tier
};

class KilledAt : public ::testing::TestWithParam<Point> {};

TEST_P(KilledAt, anotherManagerGoesOnAndNoByteIsWrong) {
    const auto& [point, pass, huge, calm, tier] = GetParam();
    Vm vm(huge, calm ? "plain" : "mixed");  // whole blocks go to the store where all of it compresses
    if (tier) vm.useFileTier();
    const Anatomy before(vm.subject().pid());
    vm.attach(fmt::format("{}:{}", point, pass));
    if (!calm) {
        ASSERT_EQ(vm.subject().command("hammer 3"), "ok");
    }
    ASSERT_TRUE(vm.changeLimitsUntilItDies()) << "the point was not passed so often";
    ASSERT_EQ(vm.manager().exitCode(), -SIGKILL);

    vm.mustRecover();
    if (calm) {
        EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
        ASSERT_EQ(vm.subject().command("hammer 3"), "ok");
    }
    ASSERT_EQ(vm.subject().command("await-more 2000"), "ok");
    ASSERT_NO_FATAL_FAILURE(vm.goOnUnderALimitAndEnd());
    const Anatomy after(vm.subject().pid());
    EXPECT_EQ(before.descriptors, after.descriptors);
}

INSTANTIATE_TEST_SUITE_P(
    Points, KilledAt,
    ::testing::Values(
        Point{"guest-registered", 1, false}, Point{"guest-scanned", 1, true}, Point{"guest-let-go", 1, false},
        Point{"agent-asked", 1, true}, Point{"agent-asked", 40, false},
        Point{"moved-aside-whole", 3, true, true}, Point{"moved-aside", 1, false},
        Point{"moved-aside", 50, false}, Point{"slot-written", 20, true}, Point{"slot-written", 3000, false},
        Point{"entry-replaced", 700, true}, Point{"entry-replaced", 77, false},
        Point{"entries-published", 3, false}, Point{"block-published", 1, true, true},
        Point{"dropped", 1, true}, Point{"dropped", 5, false}, Point{"moved-in", 4, true},
        Point{"fault-served", 1, false}, Point{"fault-served", 500, true}, Point{"page-there", 1, false},
        Point{"page-there", 60, true}, Point{"brought-back", 2, false}, Point{"brought-back", 60, true},
        Point{"fresh-filled", 1, true, true}, Point{"slot-copied", 5, false}, Point{"slot-moved", 20, true},
        Point{"tightened", 5, false}, Point{"event-read", 1, false}, Point{"event-read", 30, true},
        Point{"event-applied", 1, true}, Point{"event-applied", 30, false}, Point{"limit-changed", 4, false},
        Point{"segment-opened", 1, false, false, true}, Point{"segment-opened", 20, true, false, true},
        Point{"record-put", 1, false, false, true}, Point{"record-put", 900, true, false, true},
        Point{"record-published", 1, true, false, true}, Point{"record-published", 1500, false, false, true},
        Point{"segment-written", 1, true, false, true}, Point{"segment-written", 15, false, false, true},
        Point{"record-served", 1, false, false, true}, Point{"record-served", 700, true, false, true},
        Point{"record-moved", 1, false, false, true}, Point{"record-moved", 30, true, false, true}),
    [](const auto& test) {
        std::string name =
            fmt::format("{}_{}_{}", test.param.name, test.param.pass, test.param.huge ? "huge" : "small");
        std::replace(name.begin(), name.end(), '-', '_');
        return name;
    });

/// The block lies beside the staging area then, and must not be taken for one of zeros.
TEST(Recovery, whatWasMadeAsideForAStreamIsNotTakenForFreshMemory) {
    for (const bool givenUp : {false, true}) {
        Vm vm(true, "plain");
        vm.attach("fresh-filled-ahead:1");
        ASSERT_TRUE(vm.setLimit(48 * mib));
        vm.await([](const Status& now) { return now.usedBytes + 4 * mib <= 48 * mib; });
        ASSERT_EQ(vm.subject().command("start-touch-all"), "ok");
        ASSERT_EQ(vm.manager().exitCode(), -SIGKILL);
        if (givenUp) {
            ASSERT_EQ(vm.subject().command(fmt::format("start-discard 0 {}", pages)), "ok");
            memory::testing::awaitBlocked(vm.subject().pid(), std::to_string(SYS_madvise));
        }
        vm.mustRecover();
        ASSERT_EQ(vm.subject().command("join-last"), "ok");
        if (givenUp) {
            ASSERT_EQ(vm.subject().command("join-last"), "ok");
        }
        EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
        vm.detachAndCure();
        EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
    }
}

TEST(Recovery, ofARecoveryThatWasKilled) {
    Vm vm(false);
    vm.attach();
    ASSERT_EQ(vm.subject().command("hammer 3"), "ok");
    for (const char* point : {"recovery-replayed:1", "recovery-half-settled:1", "recovery-claimed:1"}) {
        ASSERT_TRUE(vm.setLimit(24 * mib));
        vm.await([](const Status& now) { return now.coldBytes > 0 && now.stagedBytes > 0; });
        vm.kill();
        EXPECT_TRUE(vm.recover(point).is_null());
        ASSERT_EQ(vm.manager().exitCode(), -SIGKILL);
        vm.mustRecover();
        ASSERT_EQ(vm.subject().command("await-more 500"), "ok");
    }
    EXPECT_EQ(vm.subject().command("stop").substr(0, 3), "ok ");
    EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
}

/// Where the dead manager made a block for the guest, the next one makes blocks of zeros.
TEST(Recovery, aBlockThatWasBeingMadeIsNobodysZeros) {
    Vm vm(true, "plain");
    vm.attach();
    ASSERT_TRUE(vm.setLimit(32 * mib));
    vm.await([](const Status& now) { return now.coldBytes >= 40 * mib; });
    vm.kill();
    vm.mustRecover("fresh-filled-ahead:1");  // without a limit, a fault brings the whole block
    ASSERT_EQ(vm.subject().command("start-touch 1100"), "ok");
    ASSERT_EQ(vm.manager().exitCode(), -SIGKILL);
    vm.subject().send("discard 1024 512");  // the block that page 1100 is in
    vm.mustRecover();
    ASSERT_EQ(vm.subject().answer(), "ok");
    ASSERT_EQ(vm.subject().command("join-last"), "ok");
    EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
}

/// All that the file tier has: on the disk, in buffers, and what does not compress.
TEST(Recovery, whatIsInTheFileTierIsThereAfterwards) {
    Vm vm(false);
    vm.useFileTier();
    const Anatomy before(vm.subject().pid());
    vm.attach();
    for (int life = 0; life < 4; ++life) {
        ASSERT_TRUE(vm.setLimit((16 + 4 * static_cast<std::uint64_t>(life)) * mib));
        const auto then = vm.await([](const Status& now) { return now.frozenBytes > 24 * mib; });
        EXPECT_EQ(then.fileTier, "open");
        life % 2 == 0 ? vm.kill() : vm.handOver();
        vm.mustRecover();
        const auto now = vm.status().value();
        EXPECT_EQ(now.fileTier, "open");
        EXPECT_GT(now.frozenBytes, 20 * mib);
        EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
        EXPECT_GT(vm.status()->frozenFaults, 0U);
        EXPECT_EQ(vm.subject().command("write 0 4096"), "ok");
    }
    vm.detachAndCure();
    EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
    EXPECT_EQ(Anatomy(vm.subject().pid()), before);
}

/// Whatever it was at when it was killed, the next one ends it.
TEST(Recovery, aFileTierThatWasBeingClosedIsClosed) {
    for (const char* point : {"thawed:1", "thawed:200"}) {
        SCOPED_TRACE(point);
        Vm vm(false);
        vm.useFileTier();
        vm.attach(point);
        ASSERT_TRUE(vm.setLimit(32 * mib));
        vm.await([](const Status& now) { return now.frozenBytes > 16 * mib; });
        (void)vm.manager().tryCall({{"id", 3}, {"method", "close-file-tier"}});
        ASSERT_EQ(vm.manager().exitCode(), -SIGKILL);
        vm.mustRecover();
        vm.await([](const Status& now) { return now.fileTier == "switched off"; });
        EXPECT_EQ(vm.status()->frozenBytes, 0U);
        vm.kill();
        vm.mustRecover();
        vm.await([](const Status& now) { return now.fileTier == "switched off"; });
        EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
        ASSERT_TRUE(vm.setLimit(0));
        vm.detachAndCure();
        EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
    }
}

TEST(Recovery, aFileTierIsReadWhereNoneIsWantedAnyMore) {
    Vm vm(false);
    vm.useFileTier();
    vm.attach();
    ASSERT_TRUE(vm.setLimit(24 * mib));
    vm.await([](const Status& now) { return now.frozenBytes > 16 * mib; });
    vm.kill();
    vm.useNoFileTier();
    vm.mustRecover();
    EXPECT_NE(vm.status()->fileTier.find("without --file-tier-dir"), std::string::npos);
    EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
    ASSERT_TRUE(vm.setLimit(0));
    vm.await([](const Status& now) { return now.frozenBytes == 0; });
    vm.detachAndCure();
    EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
}

/// The address map and the events that change it outlive the manager.
TEST(Recovery, memoryThatIsRemappedAndUnmappedIsFollowed) {
    for (const char* point : {"event-read:1", "event-applied:1"}) {
        for (const char* what : {"remap", "unmap 1000 3000", "discard 100 9000"}) {
            SCOPED_TRACE(std::string(point) + " " + what);
            Vm vm(false);
            vm.attach(point);
            ASSERT_TRUE(vm.setLimit(24 * mib));
            vm.await([](const Status& now) { return now.coldBytes > 10 * mib; });
            vm.subject().send(what);  // mremap has two events, of which it waits for the second
            ASSERT_EQ(vm.manager().exitCode(), -SIGKILL);
            vm.mustRecover();
            ASSERT_EQ(vm.subject().answer(), "ok");
            const auto memory = vm.status().value().memoryBytes;
            EXPECT_EQ(memory, what[0] == 'u' ? (pages - 3000) * 4096 : pages * 4096);
            EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
            // And once more: what was recovered is what the next one finds.
            ASSERT_TRUE(vm.setLimit(44 * mib));
            vm.await([](const Status& now) { return now.usedBytes <= 44 * mib; });
            vm.kill();
            vm.mustRecover();
            EXPECT_EQ(vm.status().value().memoryBytes, memory);
            EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
            vm.detachAndCure();
            EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
        }
    }
}

TEST(Recovery, whatADetachHadBroughtBackStaysThere) {
    for (const char* point : {"all-back:1", "agent-dismissed:1", "agent-dismissed:2"}) {
        SCOPED_TRACE(point);
        Vm vm(true);
        const Anatomy before(vm.subject().pid());
        vm.attach(point);
        ASSERT_TRUE(vm.setLimit(24 * mib));
        vm.await([](const Status& now) { return now.coldBytes > 10 * mib; });
        EXPECT_TRUE(vm.manager().tryCall({{"id", 2}, {"method", "detach"}}).is_null());
        ASSERT_EQ(vm.manager().exitCode(), -SIGKILL);
        const auto ready = vm.recover();
        if (point[0] == 'a' && point[1] == 'l') {
            ASSERT_TRUE(ready.at("ok").get<bool>()) << ready;
            vm.manager().connect();
            EXPECT_EQ(vm.status().value().residentBytes, ramMib * mib);
            vm.detachAndCure();
        } else {
            ASSERT_FALSE(ready.at("ok").get<bool>());
            EXPECT_EQ(ready.at("error").at("name"), "NotAttached") << ready;
            EXPECT_EQ(vm.manager().exitCode(), 1);
            vm.cure();
        }
        EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
        const Anatomy after(vm.subject().pid());
        EXPECT_EQ(before.threads, after.threads);
        EXPECT_EQ(before.descriptors, after.descriptors);
        EXPECT_EQ(before.mappings, after.mappings);
    }
}

/// Nobody has told its agents to leave; a cure does, where that loses nothing.
TEST(Recovery, aManagerThatDiedBeforeItTookAPageIsCured) {
    Vm vm(false);
    vm.useFileTier();
    const Anatomy before(vm.subject().pid());
    vm.attach();
    vm.kill();
    vm.cure();
    EXPECT_EQ(Anatomy(vm.subject().pid()), before);
    EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));

    vm.attach();
    ASSERT_TRUE(vm.setLimit(24 * mib));
    vm.await([](const Status& now) { return now.coldBytes + now.frozenBytes > 10 * mib; });
    vm.kill();
    EXPECT_EQ(ManagerChild::run({"cure", "--pid", std::to_string(vm.subject().pid()), "--state-dir",
                                 vm.manager().directory()}),
              1)
        << "pages are away";
    vm.mustRecover();
    EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
}

TEST(Recovery, isRefusedWhileAManagerLivesAndWhereNothingIsLeft) {
    Vm vm(false);
    vm.attach();
    ASSERT_TRUE(vm.setLimit(24 * mib));
    const auto arguments = [&](const std::string& directory) {
        return std::vector<std::string>{
            "run",         "--recover", "--pid",  std::to_string(vm.subject().pid()),
            "--state-dir", directory,   "--name", "second"};
    };
    EXPECT_EQ(ManagerChild::run(arguments(vm.manager().directory())), 1);
    EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
    ManagerChild other;
    EXPECT_EQ(ManagerChild::run(arguments(other.directory())), 1);
    EXPECT_TRUE(vm.status());
    vm.kill();
    const auto afterItsEnd = arguments(vm.manager().directory());
    vm.subject().kill();
    EXPECT_EQ(ManagerChild::run(afterItsEnd), 1);
}

}  // namespace
}  // namespace thermocline::manager
