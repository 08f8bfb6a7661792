// SPDX-License-Identifier: Apache-2.0

// A file tier's store whose process is killed, and the one that goes on with what it left.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "memory/frozen_ledger.h"
#include "memory/frozen_store.h"

namespace thermocline::memory {
namespace {

using Content = std::vector<std::byte>;
constexpr auto segmentBytes = FrozenSegments::segmentBytes;

Content content(PageNumber page, std::uint64_t version) {
    std::mt19937_64 random(page << 20 | version);
    Content bytes(1 + random() % pageBytes);
    for (auto& byte : bytes)
        byte = static_cast<std::byte>(random());
    return bytes;
}

/// The page map, as far as it matters here: which version of which page is where. In memory that is shared
/// with the process that dies.
struct Entry {
    std::uint64_t slot;  // packed; 0: none
    std::uint64_t version;
};
constexpr std::size_t pages = 1500;
using Map = std::array<Entry, pages>;

class FrozenRecovery : public ::testing::Test {
  protected:
    void SetUp() override {
        auto path =
            (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "frozen-XXXXXX").string();
        ASSERT_NE(::mkdtemp(path.data()), nullptr);
        options_.directory = path;
        options_.maxFileBytes = 64U << 20;
        char state[] = "/dev/shm/thermocline-frozen-XXXXXX";
        ASSERT_NE(::mkdtemp(state), nullptr);
        state_ = state;
        options_.ledger = state_ + "/frozen";
        map_ = static_cast<Map*>(
            ::mmap(nullptr, sizeof(Map), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    }
    void TearDown() override {
        kept_ = {};
        EXPECT_TRUE(std::filesystem::is_empty(options_.directory)) << "a file was left behind";
        std::filesystem::remove_all(options_.directory);
        std::filesystem::remove_all(state_);
        ::munmap(map_, sizeof(Map));
    }

    /// A process that makes (or takes over) the store, does `work` and is killed. What is to be kept open
    /// stays open here, as it would in a VM's process.
    void die(const std::function<void(FrozenStore&)>& work) {
        std::array<int, 2> sockets{};
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets.data()), 0);
        const UniqueFd ours(sockets[0]);
        const pid_t child = ::fork();
        if (child == 0) {
            try {
                auto store =
                    kept_.key.valid() ? takeOver() : std::move(FrozenStore::create(options_).value());
                if (!kept_.key.valid()) sendKept(sockets[1], *store);
                work(*store);
                ::raise(SIGKILL);
            } catch (const std::exception& exception) {
                (void)!::write(STDERR_FILENO, exception.what(), std::strlen(exception.what()));
            }
            ::_exit(3);
        }
        ::close(sockets[1]);
        if (!kept_.key.valid()) receiveKept(ours.get());
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    }
    std::unique_ptr<FrozenStore> takeOver() {
        auto store = FrozenStore::recover(options_, {copyOf(kept_.key), copyOf(kept_.file)});
        if (!store) throw std::runtime_error(store.error().message);
        for (PageNumber page = 0; page < pages; ++page)
            if (at(page).slot != 0 && !(*store)->claim(page, FrozenSlot::unpacked(at(page).slot)))
                throw std::runtime_error("page " + std::to_string(page) + " was refused");
        (*store)->endClaims();
        return std::move(*store);
    }
    Entry& at(PageNumber page) { return (*map_)[page]; }
    /// As the pager would: the entry is the last thing to change.
    void put(FrozenStore& store, PageNumber page) {
        const auto version = at(page).version + 1;
        const auto bytes = content(page, version);
        auto slot = store.put(page, bytes);
        while (!slot && slot.error().code == ErrorCode::busy) {
            (void)store.wait();
            slot = store.put(page, bytes);
        }
        if (!slot) throw std::runtime_error(slot.error().message);
        drop(store, page);
        at(page) = {slot->packed(), version};
    }
    void drop(FrozenStore& store, PageNumber page) {
        const auto before = std::exchange(at(page).slot, 0);
        if (before != 0) store.release(FrozenSlot::unpacked(before));
    }
    void settle(FrozenStore& store) {
        (void)store.flush();
        while (store.status().writesUnderWay > 0)
            (void)store.wait();
        (void)store.poll();
    }
    std::size_t expectAll(FrozenStore& store) {
        std::size_t found = 0;
        std::array<std::byte, pageBytes> into;
        for (PageNumber page = 0; page < pages; ++page) {
            if (at(page).slot == 0) continue;
            ++found;
            const auto bytes = store.get(page, FrozenSlot::unpacked(at(page).slot), into);
            EXPECT_TRUE(bytes) << bytes.error().message;
            if (!bytes) return found;
            EXPECT_EQ(Content(bytes->begin(), bytes->end()), content(page, at(page).version)) << page;
        }
        return found;
    }
    static UniqueFd copyOf(const UniqueFd& fd) {
        return UniqueFd(fd.valid() ? ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0) : -1);
    }
    std::uint64_t recoveryMustFail(FrozenStore::Kept kept) {
        const auto store = FrozenStore::recover(options_, std::move(kept));
        EXPECT_FALSE(store);
        return store ? 0 : static_cast<std::uint64_t>(store.error().code);
    }

    FrozenOptions options_;
    std::string state_;
    FrozenStore::Kept kept_;
    Map* map_ = nullptr;

  private:
    static void sendKept(int socket, const FrozenStore& store) {
        const auto kept = store.toKeep();
        std::array<int, 2> fds{kept->key.get(), kept->file.get()};
        char byte = 0;
        iovec vector{&byte, 1};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof fds)> room{};
        msghdr message{nullptr, 0, &vector, 1, room.data(), room.size(), 0};
        auto* header = CMSG_FIRSTHDR(&message);
        *header = {CMSG_LEN(sizeof fds), SOL_SOCKET, SCM_RIGHTS};
        std::memcpy(CMSG_DATA(header), fds.data(), sizeof fds);
        if (::sendmsg(socket, &message, 0) != 1) throw std::runtime_error("sendmsg");
    }
    void receiveKept(int socket) {
        std::array<int, 2> fds{-1, -1};
        char byte = 0;
        iovec vector{&byte, 1};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof fds)> room{};
        msghdr message{nullptr, 0, &vector, 1, room.data(), room.size(), 0};
        ASSERT_EQ(::recvmsg(socket, &message, MSG_CMSG_CLOEXEC), 1);
        std::memcpy(fds.data(), CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fds);
        kept_ = {UniqueFd(fds[0]), UniqueFd(fds[1])};
    }
};

TEST_F(FrozenRecovery, whatWasOnTheDiskAndWhatWasNotIsThere) {
    die([&](FrozenStore& store) {
        for (PageNumber page = 0; page < 1000; ++page)
            put(store, page);
        settle(store);
        for (PageNumber page = 300; page < 600; ++page)
            drop(store, page);
        for (PageNumber page = 1000; page < 1050; ++page)
            put(store, page);  // in the open segment: in memory only
    });
    auto store = takeOver();
    EXPECT_EQ(expectAll(*store), 750U);
    EXPECT_EQ(store->status().liveRecords, 750U);
    settle(*store);
    EXPECT_EQ(expectAll(*store), 750U) << "now all of it is on the disk";
    EXPECT_EQ(store->status().damagedRecords, 0U);
    // And it goes on as any other.
    for (PageNumber page = 0; page < pages; ++page)
        put(*store, page);
    settle(*store);
    EXPECT_EQ(expectAll(*store), pages);
    EXPECT_TRUE(store->killSwitch());
}

TEST_F(FrozenRecovery, againAndAgainWhateverItWasAt) {
    std::mt19937_64 random(1);
    for (unsigned life = 0; life < 25; ++life) {
        die([&](FrozenStore& store) {
            expectAll(store);
            if (::testing::Test::HasFailure()) ::_exit(1);
            std::mt19937_64 mine(life);
            for (auto step = mine() % 2500; step > 0; --step) {
                const auto page = mine() % pages;
                if (mine() % 3 == 0)
                    drop(store, page);
                else
                    put(store, page);
                if (mine() % 200 == 0) (void)store.flush();
                if (mine() % 100 == 0) (void)store.poll();
                if (mine() % 150 != 0) continue;
                const auto moves = store.compactOne();
                if (!moves) continue;
                for (const auto& [moved, from, to] : *moves) {
                    at(moved).slot = to.packed();
                    store.release(from);
                }
            }
        });
        if (HasFatalFailure() || HasFailure()) return;
    }
    const auto store = takeOver();
    EXPECT_GT(expectAll(*store), pages / 3);
    EXPECT_EQ(store->status().damagedRecords, 0U);
    // What those before had written and nobody needs is given back.
    settle(*store);
    EXPECT_LE(store->status().fileBytes, 20U << 20);
    EXPECT_TRUE(store->killSwitch());
}

/// The same nonce under the same key for two records would give both away.
TEST_F(FrozenRecovery, noFillingHasTheNumberOfAnEarlierOne) {
    die([&](FrozenStore& store) {
        for (PageNumber page = 0; page < 600; ++page)
            put(store, page);
    });
    const auto serials = [&] {
        const auto ledger = FrozenLedger::open(options_.ledger);
        EXPECT_TRUE(ledger);
        const auto all = (*ledger)->serials();
        return std::vector<std::uint64_t>(all.begin(), all.end());
    };
    const auto before = serials();
    const auto highest = *std::max_element(before.begin(), before.end());
    EXPECT_GE(highest, 4U);
    // Also where nothing of it is wanted any more.
    for (PageNumber page = 0; page < 600; ++page)
        at(page).slot = 0;
    die([&](FrozenStore& store) {
        for (PageNumber page = 0; page < 600; ++page)
            put(store, page);
    });
    const auto after = serials();
    std::size_t fresh = 0;
    for (std::size_t i = 0; i < after.size(); ++i)
        if (i >= before.size() || after[i] != before[i]) {
            ++fresh;
            EXPECT_GT(after[i], highest);
        }
    EXPECT_GE(fresh, 4U);
}

TEST_F(FrozenRecovery, theDaysBudgetHoldsOverADeath) {
    options_.maxBytesPerDay = 4 * segmentBytes;
    die([&](FrozenStore& store) {
        for (PageNumber page = 0; page < 400; ++page)
            put(store, page);
        settle(store);
    });
    const auto store = takeOver();
    EXPECT_GE(store->status().bytesWrittenInADay, 3 * segmentBytes);
    Result<FrozenSlot> slot = FrozenSlot{};
    for (PageNumber page = 400; slot && page < pages; ++page)
        slot = store->put(page, content(page, 1));
    ASSERT_FALSE(slot);
    EXPECT_NE(slot.error().message.find("per day"), std::string::npos) << slot.error().message;
}

TEST_F(FrozenRecovery, whatCannotBeIsNotClaimed) {
    die([&](FrozenStore& store) {
        for (PageNumber page = 0; page < 10; ++page)
            put(store, page);
    });
    auto store = FrozenStore::recover(options_, {copyOf(kept_.key), copyOf(kept_.file)});
    ASSERT_TRUE(store);
    const auto slot = FrozenSlot::unpacked(at(3).slot);
    ASSERT_TRUE((*store)->claim(3, slot));
    EXPECT_FALSE((*store)->claim(3, slot)) << "twice";
    EXPECT_FALSE((*store)->claim(4, {slot.granule + 1, 1})) << "inside of another one";
    EXPECT_FALSE((*store)->claim(4, {slot.granule - 1, 20})) << "into another one";
    EXPECT_FALSE((*store)->claim(4, {FrozenSegments::segmentBytes / 16 - 1, 1})) << "out of its segment";
    EXPECT_FALSE((*store)->claim(4, {std::uint64_t{1} << 40, 1})) << "where nothing was ever written";
    EXPECT_FALSE((*store)->claim(4, {0, 0}));
    EXPECT_FALSE((*store)->claim(4, {0, 4097}));
    // Of the right size at the right place, for another page: the record itself tells.
    const auto fifth = FrozenSlot::unpacked(at(5).slot);
    ASSERT_TRUE((*store)->claim(6, fifth));
    (*store)->endClaims();
    std::array<std::byte, pageBytes> into;
    EXPECT_TRUE((*store)->get(3, slot, into));
    EXPECT_FALSE((*store)->get(6, fifth, into));
    EXPECT_EQ((*store)->status().damagedRecords, 1U);
}

TEST_F(FrozenRecovery, isRefusedWithoutWhatWasKept) {
    constexpr auto notSupported = static_cast<std::uint64_t>(ErrorCode::notSupported);
    die([&](FrozenStore& store) { put(store, 1); });
    EXPECT_EQ(recoveryMustFail({}), notSupported);
    EXPECT_EQ(recoveryMustFail({copyOf(kept_.key), {}}), notSupported);
    EXPECT_EQ(recoveryMustFail({{}, copyOf(kept_.file)}), notSupported);
    EXPECT_EQ(recoveryMustFail({copyOf(kept_.file), copyOf(kept_.key)}), notSupported);
    EXPECT_TRUE(takeOver());
    std::filesystem::resize_file(options_.ledger, 4096);
    EXPECT_EQ(recoveryMustFail({copyOf(kept_.key), copyOf(kept_.file)}), notSupported);
    std::filesystem::remove(options_.ledger);
    EXPECT_EQ(recoveryMustFail({copyOf(kept_.key), copyOf(kept_.file)}),
              static_cast<std::uint64_t>(ErrorCode::notAttached));
}

/// A VM's process that was broken into could hold out a file that it may read, to have root write to it.
TEST_F(FrozenRecovery, writesToNoOtherFileThatIsHeldOut) {
    die([&](FrozenStore& store) { put(store, 1); });
    const auto victim = options_.directory + "/victim";
    {
        const UniqueFd named(::open(victim.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
        ASSERT_EQ(::write(named.get(), "text", 4), 4);
        UniqueFd readable(::open(victim.c_str(), O_RDONLY | O_CLOEXEC));
        EXPECT_EQ(recoveryMustFail({copyOf(kept_.key), copyOf(readable)}),
                  static_cast<std::uint64_t>(ErrorCode::notSupported));
        std::filesystem::remove(victim);  // without a name, as ours
        EXPECT_EQ(recoveryMustFail({copyOf(kept_.key), copyOf(readable)}),
                  static_cast<std::uint64_t>(ErrorCode::notSupported));
        struct stat info {};
        ASSERT_EQ(::fstat(named.get(), &info), 0);
        EXPECT_EQ(info.st_size, 4);
    }
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const UniqueFd other(pipe[1]);
    EXPECT_EQ(recoveryMustFail({copyOf(kept_.key), UniqueFd(pipe[0])}),
              static_cast<std::uint64_t>(ErrorCode::notSupported));
    EXPECT_EQ(expectAll(*takeOver()), 1U);
}

TEST_F(FrozenRecovery, whatIsKeptCannotWriteToTheFile) {
    die([&](FrozenStore& store) { put(store, 1); });
    EXPECT_EQ(::fcntl(kept_.file.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
    EXPECT_EQ(::fcntl(kept_.file.get(), F_GETFL) & O_DIRECT, 0)
        << "a VM's process with an O_DIRECT file counts as one whose pages a device may write to";
    EXPECT_EQ(::ftruncate(kept_.file.get(), 0), -1);
    EXPECT_EQ(expectAll(*takeOver()), 1U);
}

TEST_F(FrozenRecovery, aFailedWriteOfTheDeadOneIsTriedAgain) {
    options_.seams.ioDone = [](bool write, std::uint64_t, int result) { return write ? -EIO : result; };
    die([&](FrozenStore& store) {
        for (PageNumber page = 0; page < 200; ++page)
            put(store, page);
        (void)store.flush();
        while (store.status().writesUnderWay > 0)
            (void)store.wait();
        if (store.status().failedSegments == 0) ::_exit(2);
    });
    options_.seams.ioDone = {};
    const auto store = takeOver();
    EXPECT_EQ(expectAll(*store), 200U);
    settle(*store);
    EXPECT_EQ(store->status().failedSegments, 0U);
    EXPECT_EQ(expectAll(*store), 200U);
}

TEST_F(FrozenRecovery, thatItIsToBeClosedIsRemembered) {
    die([&](FrozenStore& store) {
        put(store, 1);
        store.setClosing();
    });
    const auto store = takeOver();
    EXPECT_TRUE(store->closing());
    EXPECT_EQ(expectAll(*store), 1U);
}

}  // namespace
}  // namespace thermocline::memory
