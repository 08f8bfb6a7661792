// SPDX-License-Identifier: Apache-2.0

// The engine on a real process and the real kernel: every byte of the subject is checked after each thing
// that can happen to it.

#include "memory/vm_memory.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <condition_variable>
#include <filesystem>

#include "memory/process_map.h"
#include "memory/testing/anatomy.h"
#include "memory/testing/subject_process.h"
#include "memory/testing/vm_fixture.h"

namespace thermocline::memory {
namespace {

using testing::Anatomy;
using testing::SubjectMemory;
using testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;

/// Of what the subject's memory is made, and how its pages are moved.
struct Setup {
    Mechanism mechanism;
    SubjectMemory memory;
};

class VmMemoryTest : public testing::VmFixture, public ::testing::WithParamInterface<Setup> {
  protected:
    void attach(SubjectProcess& subject, std::optional<FrozenTierOptions> frozen = {}) {
        auto options = optionsFor(subject);
        options.mechanism = GetParam().mechanism;
        options.processEnded = [this] { processEnded(); };
        options.frozen = std::move(frozen);
        VmFixture::attach(std::move(options));
    }
    /// In a directory on a disk; takes pages at once.
    static FrozenTierOptions fileTier() {
        FrozenTierOptions tier;
        tier.store.directory = std::filesystem::current_path();
        tier.store.maxFileBytes = 128 * mib;
        tier.age = std::chrono::milliseconds(0);
        return tier;
    }
    void processEnded() {
        const std::lock_guard lock(mutex_);
        ended_ = true;
        changed_.notify_all();
    }
    bool awaitEnded() {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return ended_; });
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    bool ended_ = false;
};

TEST_P(VmMemoryTest, limitTouchLiftDetachKeepEveryByte) {
    SubjectProcess subject(128 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 1 mixed"), "ok");
    const Anatomy before(subject.pid());
    attach(subject);
    EXPECT_EQ(vm_->status().residentBytes, 128 * mib);
    ASSERT_TRUE(vm_->setLimit(80 * mib));
    ASSERT_TRUE(awaitLimitMet()) << vm_->status().limitNote;
    auto status = vm_->status();
    EXPECT_GT(status.coldBytes, 40 * mib);
    EXPECT_LT(status.storeBytes, status.coldBytes * 7 / 10);
    const auto pages = status.residentBytes + status.stagedBytes + status.coldBytes;
    EXPECT_LE(pages, 128 * mib);
    EXPECT_GE(pages, 126 * mib) << "more than a block on its way";
    EXPECT_EQ(subject.command("verify"), "ok 32768");
    EXPECT_EQ(subject.command("write 1000 20000"), "ok");
    EXPECT_EQ(subject.command("verify"), "ok 32768");
    ASSERT_TRUE(awaitLimitMet()) << vm_->status().limitNote;
    EXPECT_GT(vm_->status().coldFaults, 0U);
    ASSERT_TRUE(vm_->setLimit(0));
    EXPECT_EQ(subject.command("verify"), "ok 32768");
    expectDetached();
    EXPECT_EQ(subject.command("verify"), "ok 32768");
    const Anatomy after(subject.pid());
    EXPECT_EQ(before.threads, after.threads);
    EXPECT_EQ(before.descriptors, after.descriptors);
    EXPECT_EQ(before.mappings, after.mappings);
}

TEST_P(VmMemoryTest, threadsThatNeverStopTouchingSeeEveryByteRight) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 2 mixed"), "ok");
    attach(subject);
    ASSERT_EQ(subject.command("hammer 3"), "ok");
    for (const auto limit : {40 * mib, 24 * mib, 0 * mib, 48 * mib, 20 * mib, 32 * mib}) {
        ASSERT_TRUE(vm_->setLimit(limit));
        ASSERT_EQ(subject.command("await " + std::to_string(vm_->status().faults + 20000)), "ok");
    }
    expectDetached();
    EXPECT_TRUE(subject.command("stop").starts_with("ok "));
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST_P(VmMemoryTest, discardedPagesReadAsZerosWhateverTheirState) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 3 plain"), "ok");
    attach(subject);
    ASSERT_TRUE(vm_->setLimit(40 * mib));
    ASSERT_TRUE(awaitLimitMet());
    // Runs that start and end within huge pages, over cold, staged and resident ones alike.
    for (int first = 100; first < 16000; first += 1500) {
        ASSERT_EQ(subject.command("discard " + std::to_string(first) + " 700"), "ok");
        ASSERT_EQ(subject.command("write " + std::to_string(first + 300) + " 100"), "ok");
    }
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    ASSERT_EQ(subject.command("discard 0 16384"), "ok");
    // Given back by the guest means given back by us.
    EXPECT_TRUE(eventually([](const Status& status) { return status.coldBytes == 0; }));
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    ASSERT_EQ(subject.command("fill 4 plain"), "ok");
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    expectDetached();
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST_P(VmMemoryTest, unmappedAndRemappedMemoryIsFollowed) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 5 plain"), "ok");
    attach(subject);
    ASSERT_TRUE(vm_->setLimit(40 * mib));
    ASSERT_TRUE(awaitLimitMet());
    ASSERT_EQ(subject.command("remap"), "ok");
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    ASSERT_EQ(subject.command("unmap 2000 1000"), "ok");
    EXPECT_TRUE(
        eventually([](const Status& status) { return status.memoryBytes == 64 * mib - 1000 * pageBytes; }));
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    ASSERT_TRUE(awaitLimitMet());
    EXPECT_EQ(subject.command("write 0 2000"), "ok");
    expectDetached();
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST_P(VmMemoryTest, pinnedPagesStayWhereTheyAre) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 6 plain"), "ok");
    attach(subject);
    const auto pinned = subject.command("pin 1024 1024");  // 4 MiB
    ASSERT_TRUE(pinned.starts_with("ok ")) << pinned;
    ASSERT_TRUE(vm_->setLimit(16 * mib));
    ASSERT_TRUE(subject.command("touch 0 1024 1").starts_with("ok"));
    // The limit is out of reach (half of the data does not compress away), so everything movable has been
    // tried.
    const auto faultsBefore = vm_->status().faults;
    ASSERT_TRUE(subject.command("touch 1024 1024 1").starts_with("ok"));
    EXPECT_EQ(vm_->status().faults, faultsBefore) << "a pinned page had been moved away";
    EXPECT_EQ(subject.command("unpin " + pinned.substr(3)), "ok");
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    expectDetached();
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST_P(VmMemoryTest, freshMemoryIsServedAndCounted) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    attach(subject);
    ASSERT_TRUE(vm_->setLimit(64 * mib));
    ASSERT_EQ(subject.command("fill 7 plain"), "ok");
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    // A staged page that is touched takes its memory twice until reclaim drops the original.
    ASSERT_TRUE(awaitLimitMet());
    const auto status = vm_->status();
    EXPECT_GT(status.zeroFaults, 0U);
    EXPECT_LE(status.usedBytes, 64 * mib);
    if (GetParam().memory == SubjectMemory::huge && GetParam().mechanism == Mechanism::move) {
        EXPECT_LT(status.zeroFaults, 16384U / 2) << "fresh blocks did not come as huge pages";
    }
    expectDetached();
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST_P(VmMemoryTest, blocksThatWereSplitUnderALimitAreHugeAgainWhenTheyAreBackAndItIsQuiet) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 7 plain"), "ok");
    attach(subject);
    ASSERT_TRUE(vm_->setLimit(40 * mib));
    ASSERT_TRUE(awaitLimitMet());
    ASSERT_TRUE(vm_->setLimit(60 * mib));
    // A page of each block of the first half first: what is not cold from end to end comes back in small
    // pages.
    for (int block = 0; block < 16; ++block)
        ASSERT_TRUE(subject.command(fmt::format("touch {} 1 1", block * 512 + 100)).starts_with("ok"));
    ASSERT_TRUE(subject.command("touch 0 8192 1").starts_with("ok"));
    const auto hugeBytes = [&] {
        const auto smaps = readProcFile(fmt::format("/proc/{}/smaps_rollup", subject.pid())).value_or("");
        return statusField(smaps, "AnonHugePages");
    };
    if (GetParam().memory == SubjectMemory::huge && GetParam().mechanism == Mechanism::move) {
        EXPECT_TRUE(eventually([&](const Status&) { return hugeBytes() >= 32 * mib; })) << hugeBytes();
    }
    EXPECT_LE(vm_->status().usedBytes, 60 * mib);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    expectDetached();
}

TEST_P(VmMemoryTest, incompressibleMemoryMakesTheLimitUnreachableNotTheGuestStuck) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 8 noise"), "ok");
    attach(subject);
    ASSERT_TRUE(vm_->setLimit(32 * mib));
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    EXPECT_TRUE(eventually([](const Status& status) { return !status.limitNote.empty(); }));
    const auto status = vm_->status();
    EXPECT_FALSE(status.limitMet);
    EXPECT_NE(status.limitNote.find("do not compress"), std::string::npos) << status.limitNote;
    EXPECT_LT(status.storeBytes, 4 * mib);
    expectDetached();
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST_P(VmMemoryTest, whatDoesNotCompressGoesToTheFileTierAndTheLimitIsMet) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 8 noise"), "ok");
    attach(subject, fileTier());
    ASSERT_TRUE(vm_->setLimit(32 * mib));
    ASSERT_TRUE(awaitLimitMet()) << vm_->status().limitNote;
    EXPECT_GT(vm_->status().frozenBytes, 28 * mib);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    EXPECT_GT(vm_->status().frozenFaults, 0U);
    EXPECT_EQ(subject.command("write 0 8192"), "ok");
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    EXPECT_EQ(vm_->status().fileTier, "open");
    expectDetached();
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST_P(VmMemoryTest, whatIsColdForLongGoesFromTheStoreToTheFileTierAndBack) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 13 mixed"), "ok");
    attach(subject, fileTier());
    ASSERT_TRUE(vm_->setLimit(24 * mib));
    ASSERT_TRUE(eventually([](const Status& status) { return status.frozenBytes > 16 * mib; }))
        << vm_->status().fileTier;
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    // Lifting the limit brings everything back, unasked.
    ASSERT_TRUE(vm_->setLimit(0));
    ASSERT_TRUE(eventually([](const Status& status) { return status.residentBytes == 64 * mib; }));
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    expectDetached();
}

TEST_P(VmMemoryTest, theFileTiersKillSwitchLosesNothing) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 14 mixed"), "ok");
    attach(subject, fileTier());
    ASSERT_TRUE(vm_->setLimit(32 * mib));
    ASSERT_TRUE(eventually([](const Status& status) { return status.frozenBytes > 8 * mib; }));
    ASSERT_TRUE(vm_->closeFileTier());
    ASSERT_TRUE(eventually([](const Status& status) { return status.fileTier == "switched off"; }))
        << vm_->status().fileTier;
    EXPECT_EQ(vm_->status().frozenBytes, 0U);
    EXPECT_EQ(vm_->status().fileBytes, 0U);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    expectDetached();
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST_P(VmMemoryTest, newLimitsWhileTheFileTierIsBeingEmptiedDoNotKeepItOpen) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 16 noise"), "ok");
    attach(subject, fileTier());
    ASSERT_TRUE(vm_->setLimit(32 * mib));
    ASSERT_TRUE(awaitLimitMet()) << vm_->status().limitNote;
    ASSERT_TRUE(vm_->closeFileTier());
    EXPECT_NE(vm_->status().fileTier, "open") << "whoever asked sees it at once";
    ASSERT_TRUE(eventually([&, limit = 32 * mib](const Status& status) mutable {
        EXPECT_TRUE(vm_->setLimit(limit = limit == 64 * mib ? 32 * mib : limit + mib));
        return status.fileTier != "being emptied";
    }));
    EXPECT_EQ(vm_->status().fileTier, "switched off");
    EXPECT_EQ(vm_->status().frozenBytes, 0U);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    expectDetached();
}

TEST_P(VmMemoryTest, withoutTheFileTierThatCannotBeMadeTheVmIsAttachedAllTheSame) {
    SubjectProcess subject(32 * mib, GetParam().memory);
    const auto refused = [&](const std::string& directory, const char* words) {
        auto tier = fileTier();
        tier.store.directory = directory;
        attach(subject, tier);
        const auto status = vm_->status();
        EXPECT_TRUE(status.fileTier.starts_with("not in use: ")) << status.fileTier;
        EXPECT_NE(status.fileTier.find(words), std::string::npos) << status.fileTier;
        EXPECT_EQ(status.state, "attached");
        const auto closed = vm_->closeFileTier();
        EXPECT_EQ(closed.error().code, ErrorCode::notSupported);
        EXPECT_NE(closed.error().message.find(status.fileTier), std::string::npos) << closed.error().message;
        expectDetached();
    };
    refused("/dev/shm", "O_DIRECT; name a directory on a disk");
    refused("/nonexistent", "no such directory; make it");
    refused("/dev/null", "no such directory");
}

TEST_P(VmMemoryTest, aFullFileTierIsSaidAndLosesNothing) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 15 noise"), "ok");
    auto tier = fileTier();
    tier.store.maxBytesPerDay = 4 * mib;
    attach(subject, tier);
    ASSERT_TRUE(vm_->setLimit(32 * mib));
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    EXPECT_TRUE(eventually([](const Status& status) { return !status.limitNote.empty(); }));
    const auto status = vm_->status();
    EXPECT_NE(status.fileTier.find("per day"), std::string::npos) << status.fileTier;
    EXPECT_LE(status.frozenBytes, 4 * mib);
    expectDetached();
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST_P(VmMemoryTest, withoutALimitOnlyWhatIsColdGoes) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 11 mixed"), "ok");
    attach(subject);
    ASSERT_TRUE(vm_->setProactive(ProactivePolicy::Settings{.maxStall = 0.05, .minResidentBytes = 0}));
    EXPECT_EQ(vm_->status().proactiveMaxStall, 0.05);
    // The first quarter is touched all the time, the rest never.
    std::uint64_t touched = 0;
    EXPECT_TRUE(eventually([&](const Status& status) {
        EXPECT_TRUE(subject.command("touch 0 4096 1").starts_with("ok"));
        ++touched;
        return status.coldBytes > 40 * mib;
    }));
    const auto heat = vm_->heat(4);
    ASSERT_EQ(heat.pieces.size(), 4U);
    EXPECT_LT(heat.pieces[0].cold, 200U) << "hot memory was taken, " << touched << " touches";
    EXPECT_GT(heat.pieces[3].cold, 2000U);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    ASSERT_TRUE(vm_->setProactive(std::nullopt));
    EXPECT_TRUE(eventually([](const Status& status) { return status.coldBytes + status.stagedBytes == 0; }));
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    EXPECT_EQ(vm_->setProactive(ProactivePolicy::Settings{.maxStall = 2, .minResidentBytes = 0}).error().code,
              ErrorCode::invalidArgument);
    expectDetached();
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST_P(VmMemoryTest, aScanIsMetByPrefetchingAndKeepsEveryByte) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 12 plain"), "ok");
    attach(subject);
    ASSERT_TRUE(vm_->setLimit(48 * mib));
    ASSERT_TRUE(awaitLimitMet());
    for (const std::string stride : {"1", "8"}) {
        for (int round = 0; round < 3; ++round) {
            ASSERT_TRUE(subject.command("touch 0 " + std::to_string(16384 / std::stoi(stride)) + " " + stride)
                            .starts_with("ok"));
            EXPECT_EQ(subject.command("write 3000 2000"), "ok");
        }
        EXPECT_EQ(subject.command("verify"), "ok 16384");  // a scan, too
    }
    const auto status = vm_->status();
    EXPECT_GT(status.coldFaults, 0U);
    EXPECT_GT(status.prefetchedPages, 4 * status.coldFaults);
    expectDetached();
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST_P(VmMemoryTest, neighboursAreBroughtAlongWhereTheyAreTouchedTogether) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 16 plain"), "ok");
    attach(subject);
    ASSERT_TRUE(vm_->setLimit(40 * mib));
    ASSERT_TRUE(awaitLimitMet());
    // Sixteen pages that belong together, in no order that would look like a stream, here and there.
    for (std::uint64_t cluster = 0; cluster < 600; ++cluster)
        for (const unsigned page : {5U, 14U, 0U, 11U, 3U, 8U, 15U, 6U, 2U, 13U, 9U, 4U, 12U, 1U, 10U, 7U})
            ASSERT_TRUE(subject.command(fmt::format("touch {} 1 1", cluster * 389 % 1024 * 16 + page))
                            .starts_with("ok"));
    const auto status = vm_->status();
    EXPECT_GT(status.prefetchedPages, 2 * status.coldFaults);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    expectDetached();
}

TEST_P(VmMemoryTest, theEndOfTheProcessIsSeenInAnyState) {
    for (const bool hammered : {false, true}) {
        SubjectProcess subject(64 * mib, GetParam().memory);
        ASSERT_EQ(subject.command("fill 9 plain"), "ok");
        attach(subject);
        ASSERT_TRUE(vm_->setLimit(32 * mib));
        if (hammered) {
            ASSERT_EQ(subject.command("hammer 2"), "ok");
            ASSERT_EQ(subject.command("await 2000"), "ok");
        }
        subject.kill();
        EXPECT_TRUE(awaitEnded());
        EXPECT_EQ(vm_->status().state, "gone");
        EXPECT_EQ(vm_->setLimit(40 * mib).error().code, ErrorCode::processGone);
        EXPECT_EQ(vm_->detach().error().code, ErrorCode::processGone);
        vm_.reset();
        ended_ = false;
    }
}

TEST_P(VmMemoryTest, manyAttachmentsLeaveNothingBehind) {
    SubjectProcess subject(32 * mib, GetParam().memory);
    ASSERT_EQ(subject.command("fill 10 plain"), "ok");
    const Anatomy before(subject.pid());
    for (int i = 0; i < 20; ++i) {
        attach(subject);
        ASSERT_TRUE(vm_->setLimit(20 * mib));
        if (i % 2 == 0) {
            ASSERT_TRUE(awaitLimitMet());
        }
        expectDetached();
    }
    EXPECT_EQ(subject.command("verify"), "ok 8192");
    const Anatomy after(subject.pid());
    EXPECT_EQ(before.threads, after.threads);
    EXPECT_EQ(before.descriptors, after.descriptors);
    EXPECT_EQ(before.mappings, after.mappings);
}

TEST_P(VmMemoryTest, badLimitsAndSecondAttachmentsAreRefused) {
    SubjectProcess subject(64 * mib, GetParam().memory);
    attach(subject);
    for (const std::uint64_t limit : {std::uint64_t{1}, limitFloor(64 * mib) - 1, 64 * mib + 1}) {
        const auto set = vm_->setLimit(limit);
        ASSERT_FALSE(set);
        EXPECT_EQ(set.error().code, ErrorCode::invalidLimit);
        EXPECT_NE(set.error().message.find("67108864"), std::string::npos) << set.error().message;
    }
    EXPECT_EQ(vm_->status().limitBytes, 0U);
    expectDetached();
    EXPECT_EQ(vm_, nullptr);
}

TEST_P(VmMemoryTest, theAgentIsSmallAndItsCodeIsNeverWritable) {
    SubjectProcess subject(16 * mib, GetParam().memory);
    attach(subject);
    const auto mappings = readMappings(subject.pid());
    ASSERT_TRUE(mappings);
    std::uint64_t code = 0;
    for (const auto& mapping : *mappings) {
        EXPECT_FALSE(mapping.permissions[1] == 'w' && mapping.permissions[2] == 'x') << mapping.path;
        if (mapping.path.find("thermocline-agent") == std::string::npos) continue;
        EXPECT_EQ(mapping.permissions, "r-xp");
        code += mapping.range.bytes;
    }
    EXPECT_GT(code, 0U);
    EXPECT_LE(code, 16384U);
    const auto pause = vm_->status().attachPauseMicroseconds;
    EXPECT_GT(pause, 0U);
    expectDetached();
}

constexpr std::array all{
    Setup{Mechanism::move, SubjectMemory::huge}, Setup{Mechanism::move, SubjectMemory::small},
    Setup{Mechanism::copy, SubjectMemory::huge}, Setup{Mechanism::copy, SubjectMemory::small},
    Setup{Mechanism::unmap, SubjectMemory::shared}};

std::string setupName(const ::testing::TestParamInfo<Setup>& parameter) {
    auto name = std::string(mechanismName(parameter.param.mechanism));
    name[0] = static_cast<char>(std::toupper(name[0]));
    constexpr std::array memories{"Small", "Huge", "Shared"};
    return name + memories[static_cast<std::size_t>(parameter.param.memory)];
}
INSTANTIATE_TEST_SUITE_P(Pages, VmMemoryTest, ::testing::ValuesIn(all), setupName);

TEST(Attach, failsWithoutATraceWhereTheDeviceIsMissing) {
    SubjectProcess subject(16 * mib, false);
    const Anatomy before(subject.pid());
    const auto attached =
        attach(subject.pid(), subject.guestRam(), 8, Mechanism::move, {}, "/nonexistent/userfaultfd");
    ASSERT_FALSE(attached);
    EXPECT_EQ(attached.error().code, ErrorCode::notSupported);
    EXPECT_NE(attached.error().message.find("/nonexistent/userfaultfd"), std::string::npos);
    // A device that is something else: the process is entered, and left as it was.
    const auto wrong = attach(subject.pid(), subject.guestRam(), 8, Mechanism::move, {}, "/dev/null");
    ASSERT_FALSE(wrong);
    EXPECT_NE(wrong.error().message.find("USERFAULTFD_IOC_NEW"), std::string::npos) << wrong.error().message;
    const Anatomy after(subject.pid());
    EXPECT_EQ(before.threads, after.threads);
    EXPECT_EQ(before.descriptors, after.descriptors);
    EXPECT_EQ(before.mappings, after.mappings);
    EXPECT_EQ(subject.command("verify"), "ok 4096");
}

TEST(Attach, aProcessThatIsGoneIsAnError) {
    SubjectProcess subject(16 * mib, false);
    const auto pid = subject.pid();
    const auto ram = subject.guestRam();
    subject.kill();
    const auto attached = attach(pid, ram, 8);
    ASSERT_FALSE(attached);
    EXPECT_EQ(attached.error().code, ErrorCode::processGone);
}

}  // namespace
}  // namespace thermocline::memory
