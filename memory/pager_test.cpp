// SPDX-License-Identifier: Apache-2.0

// Single interleavings of faults, events and background work, forced on the real kernel.

#include "memory/pager.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "memory/testing/awaiting.h"
#include "memory/testing/disk_file.h"
#include "memory/testing/pager_rig.h"
#include "memory/testing/subject_process.h"

namespace thermocline::memory {
namespace {

using testing::awaitBlocked;
using testing::DiskFile;
using testing::PagerRig;
using testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;

TEST(Pager, aFaultReadTogetherWithTheRemoveOfItsPageGetsNoStaleBytes) {
    SubjectProcess subject(8 * mib, false);
    ASSERT_EQ(subject.command("fill 1 plain"), "ok");
    PagerRig rig(subject);
    rig.registerGuest();
    ASSERT_EQ(rig.stageAll(), 2048U);
    ASSERT_EQ(subject.command("start-touch 100"), "ok");
    awaitBlocked(subject.pid(), "-1");
    ASSERT_EQ(subject.command("start-discard 100 1"), "ok");
    awaitBlocked(subject.pid(), std::to_string(SYS_madvise));
    // Both wait to be read. Between reading them and serving the fault, let the kernel finish the discard.
    std::promise<std::string> discarded;
    bool first = true;
    rig.startFaultHandler([&] {
        if (std::exchange(first, false)) discarded.set_value(subject.command("join-last"));
    });
    EXPECT_EQ(discarded.get_future().get(), "ok");
    EXPECT_EQ(subject.command("join-last"), "ok") << "the thread that touched the page";
    EXPECT_EQ(subject.command("verify"), "ok 2048");
}

TEST(Pager, aPageThatIsDiscardedWhileStagedNeverComesBack) {
    for (const bool huge : {false, true}) {
        SubjectProcess subject(8 * mib, huge);
        ASSERT_EQ(subject.command("fill 1 plain"), "ok");
        PagerRig rig(subject);
        rig.serve();
        ASSERT_EQ(rig.stageAll(), 2048U);
        ASSERT_EQ(subject.command("discard 300 900"), "ok");
        EXPECT_EQ(subject.command("verify"), "ok 2048");
        ASSERT_EQ(subject.command("write 0 2048"), "ok");
        rig.stageAll();
        rig.evictAll();
        ASSERT_EQ(subject.command("discard 700 900"), "ok");
        EXPECT_EQ(subject.command("verify"), "ok 2048");
    }
}

TEST(Pager, hugePagesStayHugeThroughStagingAndStore) {
    SubjectProcess subject(8 * mib, true);
    ASSERT_EQ(subject.command("fill 1 plain"), "ok");
    const auto hugeBytes = [&] {
        const auto smaps = readProcFile("/proc/" + std::to_string(subject.pid()) + "/smaps_rollup").value();
        return statusField(smaps, "AnonHugePages");
    };
    const auto before = hugeBytes();
    ASSERT_GE(before, 8 * mib);
    PagerRig rig(subject);
    rig.serve();
    ASSERT_EQ(rig.stageAll(), 2048U);
    ASSERT_TRUE(subject.command("touch 0 4 512").starts_with("ok"));
    EXPECT_EQ(hugeBytes(), before);
    while (rig.pager().counters().stagedFaults < 4)
        std::this_thread::yield();  // counted just after the thread was woken
    EXPECT_EQ(rig.pager().counters().stagedFaults, 4U) << "one fault should bring back a whole huge page";
    EXPECT_EQ(rig.pager().counters().stagedBack, 4 * pagesPerBlock);
    ASSERT_EQ(rig.stageAll(), 2048U);
    ASSERT_EQ(rig.evictAll(), 2048U);
    EXPECT_EQ(hugeBytes(), before - 8 * mib);
    rig.restoreAll();
    EXPECT_EQ(hugeBytes(), before);
    EXPECT_EQ(subject.command("verify"), "ok 2048");
}

TEST(Pager, forAStreamABlockGoesAndComesWholeThoughSomeOfItDoesNotCompress) {
    for (const bool huge : {true, false}) {
        SubjectProcess subject(8 * mib, huge);
        ASSERT_EQ(subject.command("fill 1 mixed"), "ok");
        PagerRig rig(subject);
        rig.registerGuest();
        auto& pager = rig.pager();
        ASSERT_EQ(rig.stageAll(), 2048U);
        std::uint64_t asTheyAre = 0;
        for (BlockNumber block = 0; block < 4; ++block) {
            ASSERT_EQ(pager.evict(block, Algorithm::lz4, Pager::Poor::store), Step::done);
            for (auto page = block * pagesPerBlock; page < (block + 1) * pagesPerBlock; ++page)
                if (ColdStore::asItIs(pager.pages().get(page).slot())) ++asTheyAre;
        }
        ASSERT_EQ(pager.dropAllLeftovers(), Step::done);
        EXPECT_GT(asTheyAre, 0U) << "without such pages this shows nothing";
        EXPECT_LT(asTheyAre, 1024U);
        EXPECT_EQ(pager.pages().count(PageState::cold) + pager.pages().count(PageState::filled), 2048U);
        // Where guest RAM had small pages, the first huge page that is moved in is split, and what that
        // leaves must not be in the way of the next.
        for (std::uint64_t block = 0; block < 4; ++block) {
            const auto address = subject.guestRam()[0].start + block * blockBytes;
            ASSERT_TRUE(pager.mayComeWhole(address));
            EXPECT_TRUE(pager.prefetchBlock(address)) << block;
            EXPECT_FALSE(pager.mayComeWhole(address));
            EXPECT_TRUE(pager.takeStreamed(block));
            EXPECT_FALSE(pager.takeStreamed(block));
        }
        EXPECT_EQ(pager.pages().count(PageState::resident), 2048U);
        EXPECT_EQ(subject.command("verify"), "ok 2048");
        rig.startFaultHandler();
    }
}

TEST(Pager, aDamagedSlotLeavesTheThreadWaitingRatherThanFedGarbage) {
    SubjectProcess subject(8 * mib, false);
    ASSERT_EQ(subject.command("fill 1 plain"), "ok");
    PagerRig rig(subject);
    rig.serve();
    rig.stageAll();
    ASSERT_EQ(rig.evictAll(), 2048U);
    const auto slot = rig.pager().pages().get(100).slot();
    const std::byte wrong{0x5a};
    ASSERT_EQ(::pwrite(rig.arena().get(), &wrong, 1, static_cast<off_t>(slot.offset() + slot.bytes / 2)), 1);
    ASSERT_TRUE(subject.command("touch 0 100 1").starts_with("ok"));
    ASSERT_EQ(subject.command("start-touch 100"), "ok");
    while (rig.pager().counters().lostPages == 0)
        std::this_thread::yield();
    EXPECT_EQ(rig.pager().pages().get(100).state(), PageState::cold) << "the evidence was thrown away";
    ASSERT_TRUE(subject.command("touch 101 1000 1").starts_with("ok")) << "other pages must not suffer";
    subject.kill();
}

TEST(Pager, underChurnTheArenaStaysWithinATenthOfWhatIsCompressed) {
    SubjectProcess subject(128 * mib, false);
    ASSERT_EQ(subject.command("fill 1 mixed"), "ok");
    PagerRig rig(subject);
    rig.serve();
    const auto settle = [&] {
        rig.stageAll();
        rig.evictAll();
        while (rig.pager().compactStore() == Step::done) {
        }
        return static_cast<double>(rig.store().storedBytes()) / static_cast<double>(rig.store().slotBytes());
    };
    EXPECT_LE(settle(), 1.10);
    for (int round = 0; round < 3; ++round) {
        // Every third page changes, then every second of the rest goes: what is left is full of holes.
        for (int page = round; page < 32768; page += 3)
            subject.send("write " + std::to_string(page) + " 1");
        for (int page = round; page < 32768; page += 3)
            ASSERT_EQ(subject.answer(), "ok");
        EXPECT_LE(settle(), 1.10) << "round " << round;
        for (int page = round + 1; page < 32768; page += 6)
            subject.send("discard " + std::to_string(page) + " 1");
        for (int page = round + 1; page < 32768; page += 6)
            ASSERT_EQ(subject.answer(), "ok");
        EXPECT_LE(settle(), 1.10) << "round " << round << ", after giving up";
    }
    EXPECT_EQ(subject.command("verify"), "ok 32768");
}

/// THERMOCLINE_DIRECT_IO_EVICTIONS=10000000 makes it the long form.
TEST(Pager, whatADeviceWritesIntoAPageThatIsBeingEvictedIsNeverLost) {
    const char* wanted = std::getenv("THERMOCLINE_DIRECT_IO_EVICTIONS");
    const std::uint64_t evictions = wanted != nullptr ? std::stoull(wanted) : 20000;
    const DiskFile file;
    SubjectProcess subject(4 * mib, false);
    ASSERT_EQ(subject.command("fill 1 plain"), "ok");
    PagerRig rig(subject);
    rig.serve();
    ASSERT_EQ(subject.command("read-directly " + file.path() + " 4 1024"), "ok");
    const auto& evicted = rig.pager().counters().evictedPages;
    while (evicted < evictions) {
        rig.stageAll();
        rig.evictAll();
    }
    ASSERT_EQ(subject.command("await 1000"), "ok");
    const auto result = subject.command("stop");
    EXPECT_TRUE(result.starts_with("ok ")) << result;
}

/// The same reads, with pages taken as they must not be: copied, then dropped, without asking whether a
/// device is about to write to them. Shows that the test above can fail.
TEST(Pager, aDeviceWritingIntoAPageThatIsCopiedAwayIsNoticedByTheReader) {
    const DiskFile file;
    constexpr std::uint64_t pages = 16;
    SubjectProcess subject(4 * mib, false);
    ASSERT_EQ(subject.command("fill 1 plain"), "ok");
    PagerRig rig(subject);
    const auto ram = subject.guestRam()[0];
    ASSERT_TRUE(rig.guest().registerMissing(ram));
    std::array<std::array<std::byte, pageBytes>, pages> copies{};
    std::atomic<bool> stop{false};
    std::thread handler([&] {
        pollfd polled{rig.guest().fd(), POLLIN, 0};
        uffd_msg message{};
        std::size_t copied = 0;
        std::vector<VmAddress> pending;
        while (!stop) {
            ::poll(&polled, 1, pending.empty() ? 10 : 0);
            // As long as an event has not been read, no fault can be answered (EAGAIN).
            while (rig.guest().read({&message, 1}) == 1)
                if (message.event == UFFD_EVENT_PAGEFAULT)
                    pending.push_back({message.arg.pagefault.address & ~(std::uint64_t{pageBytes} - 1)});
            std::erase_if(pending, [&](VmAddress address) {
                const auto& bytes = copies[(address - ram.start) / pageBytes];
                return rig.guest().copy(address, bytes, copied) != Populate::retry;
            });
        }
    });
    ASSERT_EQ(subject.command("read-directly " + file.path() + " 4 16"), "ok");
    const UniqueFd memory(::open(("/proc/" + std::to_string(subject.pid()) + "/mem").c_str(), O_RDONLY));
    bool noticed = false;
    for (int tries = 0; tries < 200000 && !noticed; ++tries) {
        const auto page = static_cast<std::uint64_t>(tries) % pages;
        const auto address = static_cast<off_t>(ram.start.value + page * pageBytes);
        if (::pread(memory.get(), copies[page].data(), pageBytes, address) != static_cast<ssize_t>(pageBytes))
            continue;
        ASSERT_EQ(subject.command("discard " + std::to_string(page) + " 1"), "ok");
        noticed = subject.command("problem") != "ok";
    }
    EXPECT_TRUE(noticed);
    EXPECT_TRUE(subject.command("stop").starts_with("bad bytes"));
    stop = true;
    handler.join();
    (void)rig.guest().unregister(ram);
}

}  // namespace
}  // namespace thermocline::memory
