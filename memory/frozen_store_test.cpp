// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <thread>
#include <unordered_map>

namespace thermocline::memory {
namespace {

using namespace std::chrono_literals;
using Content = std::vector<std::byte>;
constexpr auto segmentBytes = FrozenSegments::segmentBytes;

/// Different for each seed, and fast.
Content content(std::uint64_t seed, std::size_t size) {
    Content bytes((size + 7) / 8 * 8);
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < bytes.size(); i += 8) {
        const auto word = random();
        std::memcpy(bytes.data() + i, &word, 8);
    }
    bytes.resize(size);
    return bytes;
}

bool readable(int fd) {
    pollfd waited{fd, POLLIN, 0};
    return ::poll(&waited, 1, 10'000) == 1;
}

class FrozenStoreTest : public ::testing::Test {
  protected:
    struct Live {
        FrozenSlot slot;
        Content bytes;
    };

    void SetUp() override {
        // Beside the test's binary, so on a disk: /tmp may be memory.
        auto path =
            (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "frozen-XXXXXX").string();
        ASSERT_NE(::mkdtemp(path.data()), nullptr);
        directory_ = path;
        options_.directory = directory_;
        options_.maxFileBytes = 64U << 20;
    }
    void TearDown() override {
        store_.reset();
        EXPECT_TRUE(std::filesystem::is_empty(directory_)) << "a file was left behind";
        std::filesystem::remove_all(directory_);
    }
    void make() {
        auto store = FrozenStore::create(options_);
        ASSERT_TRUE(store) << store.error().message;
        store_ = std::move(*store);
    }
    FrozenSlot put(PageNumber page, const Content& bytes) {
        auto slot = store_->put(page, bytes);
        while (!slot && slot.error().code == ErrorCode::busy) {
            EXPECT_TRUE(store_->wait());
            slot = store_->put(page, bytes);
        }
        EXPECT_TRUE(slot) << slot.error().message;
        return slot.value_or(FrozenSlot{});
    }
    /// Everything is on the disk afterwards.
    void settle() {
        ASSERT_TRUE(store_->flush());
        while (store_->status().writesUnderWay > 0)
            ASSERT_TRUE(store_->wait());
        ASSERT_TRUE(store_->poll());
    }
    Result<Content> get(PageNumber page, FrozenSlot slot) {
        std::array<std::byte, pageBytes> into;
        const auto bytes = store_->get(page, slot, into);
        if (!bytes) return tl::unexpected(bytes.error());
        return Content(bytes->begin(), bytes->end());
    }
    /// The same through the queue.
    Result<Content> getQueued(PageNumber page, FrozenSlot slot) {
        THERMOCLINE_TRY(submitRead(page, slot));
        std::optional<Result<Content>> got;
        while (!got && readable(store_->readEvent()))
            store_->completions([&](const FrozenStore::ReadDone& done) {
                EXPECT_EQ(done.record, (FrozenRecord{page, slot}));
                if (done.bytes)
                    got = Content(done.bytes->begin(), done.bytes->end());
                else
                    got = tl::unexpected(done.bytes.error());
            });
        return got ? *got : fail(ErrorCode::internal, "no completion came");
    }
    Result<std::size_t> submitRead(PageNumber page, FrozenSlot slot) {
        const FrozenRecord record{page, slot};
        return store_->submitRead({&record, 1});
    }
    void expectAll(const std::map<PageNumber, Live>& live) {
        for (const auto& [page, one] : live) {
            const auto got = get(page, one.slot);
            ASSERT_TRUE(got) << got.error().message;
            ASSERT_EQ(*got, one.bytes) << page;
        }
    }
    /// Does what the owner of the page map does with moves.
    void publish(const std::vector<FrozenStore::Move>& moves, std::map<PageNumber, Live>& live) {
        for (const auto& [page, from, to] : moves) {
            const auto found = live.find(page);
            if (found != live.end() && found->second.slot == from) {
                found->second.slot = to;
                store_->release(from);
            } else {
                store_->release(to);
            }
        }
    }
    /// Compacts until there is nothing to gain.
    void compactAll(std::map<PageNumber, Live>& live) {
        for (;;) {
            const auto moves = store_->compactOne();
            if (!moves && moves.error().code == ErrorCode::busy) {
                ASSERT_TRUE(store_->wait());
                continue;
            }
            ASSERT_TRUE(moves) << moves.error().message;
            if (moves->empty()) return;
            publish(*moves, live);
            ASSERT_TRUE(store_->poll());
        }
    }
    /// The store's file, past O_DIRECT.
    UniqueFd file() {
        for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
            std::error_code error;
            const auto target = std::filesystem::read_symlink(entry.path(), error).string();
            if (!error && target.starts_with(directory_ + "/") && target.ends_with("(deleted)"))
                return UniqueFd(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
        }
        ADD_FAILURE() << "the store has no file";
        return UniqueFd();
    }
    Content fileBytes(std::uint64_t offset, std::size_t size) {
        Content bytes(size);
        EXPECT_EQ(::pread(file().get(), bytes.data(), size, static_cast<off_t>(offset)),
                  static_cast<ssize_t>(size));
        return bytes;
    }
    void overwrite(std::uint64_t offset, const Content& bytes) {
        EXPECT_EQ(::pwrite(file().get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
                  static_cast<ssize_t>(bytes.size()));
    }

    std::string directory_;
    FrozenOptions options_;
    std::unique_ptr<FrozenStore> store_;
};

// -- records --

TEST_F(FrozenStoreTest, givesBackRecordsOfAllSizes) {
    make();
    std::map<PageNumber, Live> live;
    for (std::size_t size = 1; size <= pageBytes; size += size < 40 || size > 4050 ? 1 : 13)
        live[size] = {put(size, content(size, size)), content(size, size)};
    expectAll(live);
    settle();
    expectAll(live);
    for (const auto& [page, one] : live) {
        ASSERT_EQ(one.slot.bytes, one.bytes.size());
        const auto got = getQueued(page, one.slot);
        ASSERT_TRUE(got) << got.error().message;
        ASSERT_EQ(*got, one.bytes);
    }
    const auto status = store_->status();
    EXPECT_EQ(status.liveRecords, live.size());
    EXPECT_EQ(status.failedSegments, 0U);
    EXPECT_EQ(status.damagedRecords, 0U);
    EXPECT_EQ(status.bytesWrittenInADay, status.fileBytes);
    struct stat info {};
    ASSERT_EQ(::fstat(file().get(), &info), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(info.st_blocks) * 512, status.fileBytes) << "what it says it takes";
}

TEST_F(FrozenStoreTest, manyReadsAtATimeComeBack) {
    options_.readsUnderWay = 16;
    make();
    std::vector<Live> live;
    for (PageNumber page = 0; page < 16; ++page)
        live.push_back({put(page, content(page, 3000)), content(page, 3000)});
    settle();
    for (PageNumber page = 0; page < 16; ++page)
        ASSERT_TRUE(submitRead(page, live[page].slot));
    const auto refused = submitRead(3, live[3].slot);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::busy);
    std::vector<bool> seen(16);
    for (std::size_t count = 0; count < 16 && readable(store_->readEvent());)
        count += store_->completions([&](const FrozenStore::ReadDone& done) {
            const auto page = done.record.page;
            ASSERT_LT(page, 16U);
            EXPECT_FALSE(seen[page]);
            seen[page] = true;
            ASSERT_TRUE(done.bytes);
            EXPECT_TRUE(std::ranges::equal(*done.bytes, live[page].bytes));
        });
    EXPECT_EQ(std::ranges::count(seen, true), 16);
    EXPECT_TRUE(submitRead(3, live[3].slot)) << "places are free again";
}

TEST_F(FrozenStoreTest, oneReadBringsWhatLiesTogether) {
    make();
    std::vector<FrozenRecord> records;
    for (PageNumber page = 0; page < 100; ++page)
        records.push_back({page, put(page, content(page, 2000))});
    const auto expectRead = [&](std::span<const FrozenRecord> wanted, std::size_t count) {
        const auto begun = store_->submitRead(wanted);
        ASSERT_TRUE(begun) << begun.error().message;
        ASSERT_EQ(*begun, count);
        std::vector<FrozenRecord> came;
        while (came.size() < count && readable(store_->readEvent()))
            store_->completions([&](const FrozenStore::ReadDone& done) {
                EXPECT_EQ(done.alone, count == 1);
                ASSERT_TRUE(done.bytes) << done.bytes.error().message;
                EXPECT_TRUE(std::ranges::equal(*done.bytes, content(done.record.page, 2000)));
                came.push_back(done.record);
            });
        EXPECT_TRUE(std::ranges::equal(came, wanted.first(count)));
    };
    // 2016 bytes of the file each, and 32 KiB are read at once.
    constexpr std::size_t together = 16;
    const std::span all(records);
    expectRead(all, together);  // that are in memory still
    settle();
    expectRead(all, together);
    expectRead(all.subspan(3), together - 1);  // its sector begins before it
    expectRead(all.first(5), 5);
    const std::array apart{records[0], records[7], records[15], records[16], records[17]};
    expectRead(apart, 3);
    const std::array back{records[20], records[19]};
    expectRead(back, 1);
    const auto released = records[30];
    store_->release(released.slot);
    expectRead(all.subspan(28), 2);
    EXPECT_FALSE(store_->submitRead({&released, 1}));
    EXPECT_EQ(store_->freeReads(), options_.readsUnderWay);
}

TEST_F(FrozenStoreTest, noReadGoesBeyondASegment) {
    make();
    std::vector<FrozenRecord> records;
    for (PageNumber page = 0; records.empty() || records.back().slot.offset() < segmentBytes; ++page)
        records.push_back({page, put(page, content(page, 3000))});
    ASSERT_EQ(records.back().slot.offset(), segmentBytes);
    settle();
    EXPECT_EQ(*store_->submitRead(std::span(records).last(3)), 2U);
}

TEST_F(FrozenStoreTest, whereOneReadOfManyFailsEachIsSaidNotToBeAlone) {
    options_.seams.ioDone = [](bool write, std::uint64_t, int result) {
        return write || result <= 8192 ? result : 8192;
    };
    make();
    std::vector<FrozenRecord> records;
    for (PageNumber page = 0; page < 5; ++page)
        records.push_back({page, put(page, content(page, 3000))});
    settle();
    ASSERT_EQ(*store_->submitRead(records), 5U);
    std::vector<bool> there;
    while (there.size() < 5 && readable(store_->readEvent()))
        store_->completions([&](const FrozenStore::ReadDone& done) {
            EXPECT_FALSE(done.alone);
            EXPECT_TRUE(!done.bytes || std::ranges::equal(*done.bytes, content(done.record.page, 3000)));
            there.push_back(done.bytes.has_value());
        });
    EXPECT_EQ(there, (std::vector{true, true, false, false, false})) << "8192 bytes hold two records";
}

TEST_F(FrozenStoreTest, readsWhileWritesAreUnderWay) {
    options_.writesUnderWay = 3;
    make();
    std::map<PageNumber, Live> live;
    // Nobody calls poll() or wait(): as far as the store knows, no write ends but those that put() collects.
    Result<FrozenSlot> slot;
    std::uint64_t underWay = 0;
    for (PageNumber page = 0; page < 256; ++page) {
        slot = store_->put(page, content(page, pageBytes));
        if (!slot) break;
        live[page] = {*slot, content(page, pageBytes)};
        underWay = std::max<std::uint64_t>(underWay, store_->status().writesUnderWay);
        const auto some = live.begin();
        ASSERT_EQ(get(some->first, some->second.slot).value(), some->second.bytes);
        ASSERT_EQ(getQueued(page, *slot).value(), content(page, pageBytes));
    }
    if (!slot) {
        EXPECT_EQ(slot.error().code, ErrorCode::busy);
    }
    EXPECT_GE(underWay, 3U);
    expectAll(live);
    EXPECT_TRUE(readable(store_->writeEvent()));
    settle();
    EXPECT_EQ(store_->status().writesUnderWay, 0U);
    expectAll(live);
}

TEST_F(FrozenStoreTest, aReleasedRecordIsRefusedAndItsSpaceIsUsedAgain) {
    make();
    std::vector<FrozenSlot> slots;
    for (PageNumber page = 0; page < 300; ++page)
        slots.push_back(put(page, content(page, 2500)));
    settle();
    const auto before = store_->status().fileBytes;
    EXPECT_GT(before, 300U * 2500);
    store_->release(slots[0]);
    const auto refused = get(0, slots[0]);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("not a record of page 0"), std::string::npos)
        << refused.error().message;
    EXPECT_FALSE(submitRead(0, slots[0]));
    EXPECT_FALSE(get(2, slots[1])) << "the slot of another page";
    EXPECT_FALSE(get(1, {slots[1].granule, slots[1].bytes - 1}));
    EXPECT_FALSE(get(1, {slots[1].granule + 1, slots[1].bytes}));
    EXPECT_FALSE(get(1, {std::uint64_t{1} << 47, 100}));
    EXPECT_EQ(get(1, slots[1]).value(), content(1, 2500));
    for (std::size_t i = 1; i < slots.size(); ++i)
        store_->release(slots[i]);
    ASSERT_TRUE(store_->poll());
    EXPECT_EQ(store_->status().fileBytes, 0U);
    EXPECT_EQ(store_->status().liveBytes, 0U);
    struct stat info {};
    ASSERT_EQ(::fstat(file().get(), &info), 0);
    EXPECT_EQ(info.st_blocks, 0) << "the disk's space was not given back";
    for (PageNumber page = 0; page < 300; ++page)
        EXPECT_LT(put(page, content(page + 7, 2500)).offset(), 4 * segmentBytes)
            << "the file grew for nothing";
    settle();
    EXPECT_EQ(store_->status().fileBytes, before);
}

TEST_F(FrozenStoreTest, aSegmentIsNotUsedAgainWhileItIsRead) {
    make();
    const auto slot = put(1, content(1, 4000));
    settle();
    ASSERT_TRUE(submitRead(1, slot));
    store_->release(slot);
    ASSERT_TRUE(store_->poll());
    EXPECT_EQ(store_->status().fileBytes, 4096U) << "its space was given back under a reader";
    EXPECT_GE(put(2, content(2, 4000)).offset(), segmentBytes) << "its space was used again under a reader";
    bool came = false;
    while (!came && readable(store_->readEvent()))
        store_->completions([&](const FrozenStore::ReadDone& done) {
            came = true;
            ASSERT_TRUE(done.bytes);
            EXPECT_TRUE(std::ranges::equal(*done.bytes, content(1, 4000)));
        });
    ASSERT_TRUE(came);
    EXPECT_LT(put(3, content(3, 4000)).offset(), 2 * segmentBytes);
    settle();
    EXPECT_EQ(store_->status().fileBytes, 2U * 4096) << "pages 2 and 3";
}

TEST_F(FrozenStoreTest, takesOnlyWhatIsAPage) {
    make();
    for (const auto& slot : {store_->put(1, {}), store_->put(1, content(1, pageBytes + 1)),
                             store_->put(FrozenSegments::maxPage + 1, content(1, 10))}) {
        ASSERT_FALSE(slot);
        EXPECT_EQ(slot.error().code, ErrorCode::invalidArgument);
    }
    const auto last = put(FrozenSegments::maxPage, content(1, 10));
    EXPECT_EQ(get(FrozenSegments::maxPage, last).value(), content(1, 10));
    std::array<std::byte, 9> small;
    EXPECT_EQ(store_->get(FrozenSegments::maxPage, last, small).error().code, ErrorCode::invalidArgument);
}

// -- what is on the disk is not trusted, and says nothing --

class FrozenStoreDamage : public FrozenStoreTest {
  protected:
    void SetUp() override {
        FrozenStoreTest::SetUp();
        make();
        for (PageNumber page = 0; page < 8; ++page)
            slots_.push_back(put(page, content(page, 1500)));
        settle();
    }
    void expectRefused(PageNumber page, const std::string& why = "damaged") {
        const auto before = store_->status().damagedRecords;
        for (const auto& got : {get(page, slots_[page]), getQueued(page, slots_[page])}) {
            ASSERT_FALSE(got) << "page " << page;
            EXPECT_EQ(got.error().code, ErrorCode::systemError);
            EXPECT_NE(got.error().message.find(why), std::string::npos) << got.error().message;
            EXPECT_NE(got.error().message.find("page " + std::to_string(page)), std::string::npos);
        }
        EXPECT_EQ(store_->status().damagedRecords, before + (why == "damaged" ? 2 : 0));
    }
    std::vector<FrozenSlot> slots_;
};

TEST_F(FrozenStoreDamage, aFlippedBitAnywhereIsAnError) {
    const auto slot = slots_[3];
    for (const std::uint64_t at : {0U, 1U, 700U, 1499U, 1500U, 1508U, 1515U}) {
        const auto byte = fileBytes(slot.offset() + at, 1);
        overwrite(slot.offset() + at, {byte[0] ^ std::byte{4}});
        expectRefused(3);
        EXPECT_EQ(get(2, slots_[2]).value(), content(2, 1500));
        EXPECT_EQ(get(4, slots_[4]).value(), content(4, 1500));
        overwrite(slot.offset() + at, byte);
        ASSERT_EQ(get(3, slot).value(), content(3, 1500));
    }
}

TEST_F(FrozenStoreDamage, swappedRecordsAreErrors) {
    const auto one = fileBytes(slots_[1].offset(), 1516);
    const auto two = fileBytes(slots_[2].offset(), 1516);
    overwrite(slots_[1].offset(), two);
    overwrite(slots_[2].offset(), one);
    expectRefused(1);
    expectRefused(2);
    overwrite(slots_[1].offset(), one);
    EXPECT_EQ(get(1, slots_[1]).value(), content(1, 1500));
    expectRefused(2);
}

TEST_F(FrozenStoreDamage, anOlderRecordOfTheSamePageAtTheSamePlaceIsAnError) {
    const auto old = fileBytes(0, 16384);
    for (const auto slot : slots_)
        store_->release(slot);
    for (PageNumber page = 0; page < 8; ++page)
        ASSERT_EQ(put(page, content(page + 100, 1500)), slots_[page]) << "the place has to be the same";
    settle();
    ASSERT_EQ(get(5, slots_[5]).value(), content(105, 1500));
    overwrite(0, old);
    for (PageNumber page = 0; page < 8; ++page)
        expectRefused(page);
}

TEST_F(FrozenStoreDamage, aTruncatedFileIsAnError) {
    ASSERT_EQ(::ftruncate(file().get(), static_cast<off_t>(slots_[5].offset() + 100)), 0);
    expectRefused(6, "ends within");
    expectRefused(7, "ends within");
    EXPECT_EQ(get(1, slots_[1]).value(), content(1, 1500));
}

TEST_F(FrozenStoreDamage, aReadErrorIsAnError) {
    store_.reset();
    slots_.clear();
    bool failing = false;
    options_.seams.ioDone = [&](bool write, std::uint64_t, int result) {
        return failing && !write ? -EIO : result;
    };
    make();
    for (PageNumber page = 0; page < 8; ++page)
        slots_.push_back(put(page, content(page, 1500)));
    settle();
    failing = true;
    expectRefused(4, "Input/output error");
    failing = false;
    EXPECT_EQ(get(4, slots_[4]).value(), content(4, 1500));
}

TEST_F(FrozenStoreTest, noPlaintextReachesTheFile) {
    make();
    const std::string marker = "the quick brown fox jumps over it";
    Content page;
    while (page.size() + marker.size() <= pageBytes)
        for (const char letter : marker)
            page.push_back(static_cast<std::byte>(letter));
    for (PageNumber number = 0; number < 200; ++number)
        put(number, page);
    settle();
    const auto size = store_->status().fileBytes;
    ASSERT_GT(size, 200 * page.size());
    const auto all = fileBytes(0, size);
    const auto found = [&](const Content& needle) {
        return std::search(all.begin(), all.end(), needle.begin(), needle.end()) != all.end();
    };
    EXPECT_FALSE(found(Content(page.begin(), page.begin() + 16)));
    EXPECT_FALSE(found(Content(page.begin() + 5, page.begin() + 13)));
    // Nor can be seen that all pages are the same.
    EXPECT_FALSE(
        std::equal(all.begin(), all.begin() + 1024, all.begin() + static_cast<long>(page.size()) + 32));
    struct stat info {};
    ASSERT_EQ(::fstat(file().get(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U);
    EXPECT_EQ(info.st_nlink, 0U) << "it has a name";
    EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(FrozenStoreTest, theKillSwitchEndsEverything) {
    options_.writesUnderWay = 64;
    make();
    // So many that some still wait for the disk.
    std::vector<FrozenSlot> slots;
    const auto bytes = content(1, 4000);
    for (PageNumber page = 0; page < 3800; ++page) {
        const auto slot = store_->put(page, bytes);
        if (!slot) break;
        slots.push_back(*slot);
    }
    ASSERT_GT(slots.size(), 200U);
    const auto last = slots.size() - 1;
    ASSERT_TRUE(submitRead(0, slots[0]));
    ASSERT_TRUE(submitRead(last, slots[last])) << "one that is in memory";
    const auto killed = store_->killSwitch();
    ASSERT_TRUE(killed) << killed.error().message;
    std::size_t errors = 0;
    while (errors < 2 && readable(store_->readEvent()))
        store_->completions([&](const FrozenStore::ReadDone& done) {
            ASSERT_FALSE(done.bytes);
            EXPECT_EQ(done.bytes.error().message, "the file tier was switched off");
            ++errors;
        });
    EXPECT_EQ(errors, 2U) << "who waits for a read has to learn of it";
    const auto expectOff = [](const auto& result) {
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code, ErrorCode::notSupported);
        EXPECT_EQ(result.error().message, "the file tier was switched off");
    };
    expectOff(store_->put(1, content(1, 10)));
    expectOff(store_->flush());
    expectOff(store_->poll());
    expectOff(store_->wait());
    expectOff(store_->compactOne());
    expectOff(submitRead(1, slots[1]));
    expectOff(get(1, slots[1]));
    expectOff(get(last, slots[last]));
    store_->release(slots[1]);
    EXPECT_TRUE(store_->failedRecords().empty());
    struct stat info {};
    ASSERT_EQ(::fstat(file().get(), &info), 0);
    EXPECT_EQ(info.st_size, 0);
    EXPECT_EQ(info.st_blocks, 0);
    EXPECT_EQ(store_->status().liveRecords, 0U);
    EXPECT_TRUE(store_->killSwitch()) << "a second time";
    const auto kept = file();
    store_.reset();
    ASSERT_EQ(::fstat(kept.get(), &info), 0);
    EXPECT_EQ(info.st_size, 0) << "a write that was under way brought the file back";
}

// -- budgets --

TEST_F(FrozenStoreTest, theBudgetOnDiskIsKept) {
    options_.maxFileBytes = 6 * segmentBytes;
    make();
    std::map<PageNumber, Live> live;
    Result<FrozenSlot> slot;
    for (PageNumber page = 0; page < 2000; ++page) {
        do {
            slot = store_->put(page, content(page, 3000));
            if (!slot && slot.error().code == ErrorCode::busy) {
                ASSERT_TRUE(store_->wait());
            }
        } while (!slot && slot.error().code == ErrorCode::busy);
        if (!slot) break;
        live[page] = {*slot, content(page, 3000)};
    }
    ASSERT_FALSE(slot);
    EXPECT_EQ(slot.error().code, ErrorCode::outOfMemory);
    EXPECT_NE(slot.error().message.find("budget of 1572864 bytes on disk"), std::string::npos)
        << slot.error().message;
    EXPECT_EQ(live.size(), 5 * (segmentBytes / 3024)) << "all but the segment that compaction needs";
    settle();
    struct stat info {};
    ASSERT_EQ(::fstat(file().get(), &info), 0);
    EXPECT_LE(static_cast<std::uint64_t>(info.st_blocks) * 512, options_.maxFileBytes);
    expectAll(live);
    // With every second page gone, compaction makes room where there was none.
    for (PageNumber page = 0; live.size() > 250; page += 2) {
        store_->release(live.at(page).slot);
        live.erase(page);
    }
    EXPECT_FALSE(store_->put(5000, content(1, 3000)));
    options_.maxSpaceMultiple = 1.5;
    compactAll(live);
    EXPECT_TRUE(store_->put(5000, content(1, 3000)));
    expectAll(live);
}

TEST_F(FrozenStoreTest, theBudgetOfADayIsKept) {
    std::chrono::steady_clock::time_point now(500h + 30min);
    options_.seams.now = [&] { return now; };
    options_.maxBytesPerDay = 1'000'000;
    make();
    const auto fill = [&] {
        Result<FrozenSlot> slot;
        PageNumber page = 0;
        while ((slot = store_->put(page, content(page, 4000))))
            ++page;
        EXPECT_EQ(slot.error().code, ErrorCode::outOfMemory);
        EXPECT_NE(slot.error().message.find("budget of 1000000 bytes written per day"), std::string::npos)
            << slot.error().message;
        return page;
    };
    const auto pages = fill();
    EXPECT_GT(pages, 240U);
    settle();
    EXPECT_LE(store_->status().bytesWrittenInADay, 1'000'000U);
    EXPECT_GT(store_->status().bytesWrittenInADay, 990'000U);
    now += 24h;
    EXPECT_EQ(fill(), 0U) << "a day that begins within an hour counts that hour";
    now += 1h;
    EXPECT_EQ(fill(), pages);
}

// -- writes that fail --

TEST_F(FrozenStoreTest, aFailedWriteLosesNothing) {
    bool failing = false;
    options_.seams.ioDone = [&](bool write, std::uint64_t, int result) {
        return failing && write ? -EIO : result;
    };
    make();
    std::map<PageNumber, Live> live;
    for (PageNumber page = 0; page < 100; ++page)
        live[page] = {put(page, content(page, 3000)), content(page, 3000)};
    settle();
    failing = true;
    Result<FrozenSlot> slot;
    for (PageNumber page = 100; page < 1000; ++page) {
        while (!(slot = store_->put(page, content(page, 3000))) && slot.error().code == ErrorCode::busy)
            (void)store_->wait();
        if (!slot) break;
        live[page] = {*slot, content(page, 3000)};
    }
    ASSERT_FALSE(slot);
    EXPECT_EQ(slot.error().code, ErrorCode::systemError);
    EXPECT_NE(slot.error().message.find("Input/output error"), std::string::npos) << slot.error().message;
    while (store_->status().writesUnderWay > 0)
        EXPECT_FALSE(store_->wait());
    EXPECT_FALSE(store_->poll()) << "said as long as it is so";
    EXPECT_FALSE(store_->flush());
    EXPECT_GE(store_->status().failedSegments, 1U);
    // Nothing of the file's may be needed for them.
    ASSERT_EQ(::fallocate(file().get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          static_cast<off_t>(2 * segmentBytes), static_cast<off_t>(4 * segmentBytes)),
              0);
    expectAll(live);
    const auto records = store_->failedRecords();
    ASSERT_GE(records.size(), segmentBytes / 3024);
    failing = false;
    for (const auto& [page, failed] : records) {
        ASSERT_EQ(live.at(page).slot, failed);
        ASSERT_EQ(get(page, failed).value(), live.at(page).bytes);
        EXPECT_FALSE(store_->poll());
        store_->release(failed);
        live.erase(page);
    }
    EXPECT_TRUE(store_->poll());
    EXPECT_EQ(store_->status().failedSegments, 0U);
    for (const auto& [page, record] : records)
        live[page] = {put(page, content(page, 3000)), content(page, 3000)};
    settle();
    expectAll(live);
}

TEST_F(FrozenStoreTest, aShortWriteIsContinued) {
    unsigned shortened = 0;
    options_.seams.ioDone = [&](bool write, std::uint64_t, int result) {
        if (!write || result <= 8192) return result;
        ++shortened;
        return result / 2 + 100;  // not a whole sector
    };
    make();
    std::map<PageNumber, Live> live;
    for (PageNumber page = 0; page < 200; ++page)
        live[page] = {put(page, content(page, 3000)), content(page, 3000)};
    settle();
    EXPECT_GT(shortened, 6U);
    expectAll(live);
}

TEST_F(FrozenStoreTest, aFullDiskIsAnErrorAndLosesNothing) {
    const auto small = directory_ + "/small";
    std::filesystem::create_directory(small);
    ASSERT_EQ(::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=1m"), 0) << "needs root";
    options_.directory = small;
    options_.allowBuffered = true;
    {
        make();
        std::map<PageNumber, Live> live;
        Result<FrozenSlot> slot;
        for (PageNumber page = 0; page < 2000; ++page) {
            while (!(slot = store_->put(page, content(page, 3000))) && slot.error().code == ErrorCode::busy)
                (void)store_->wait();
            if (!slot) break;
            live[page] = {*slot, content(page, 3000)};
        }
        ASSERT_FALSE(slot);
        EXPECT_EQ(slot.error().code, ErrorCode::outOfMemory);
        EXPECT_NE(slot.error().message.find("No space left"), std::string::npos) << slot.error().message;
        EXPECT_GT(live.size(), 300U);
        expectAll(live);
        while (store_->status().writesUnderWay > 0)
            (void)store_->wait();
        for (const auto& [page, failed] : store_->failedRecords()) {
            ASSERT_EQ(get(page, failed).value(), content(page, 3000));
            store_->release(failed);
            live.erase(page);
        }
        for (PageNumber page = 0; page < 170; ++page) {
            store_->release(live.at(page).slot);
            live.erase(page);
        }
        ASSERT_TRUE(store_->poll());
        for (PageNumber page = 5000; page < 5080; ++page)
            live[page] = {put(page, content(page, 3000)), content(page, 3000)};
        settle();
        expectAll(live);
    }
    store_.reset();
    EXPECT_EQ(::umount(small.c_str()), 0);
    std::filesystem::remove(small);
}

// -- compaction --

TEST_F(FrozenStoreTest, compactionKeepsWhatIsLiveAndBoundsTheFile) {
    options_.maxSpaceMultiple = 1.3;
    make();
    std::map<PageNumber, Live> live;
    std::mt19937 random(3);
    for (std::uint64_t round = 0; round < 6; ++round) {
        for (std::uint64_t i = 0; i < 1500; ++i) {
            const PageNumber page = random() % 3000;
            if (const auto found = live.find(page); found != live.end()) {
                store_->release(found->second.slot);
                live.erase(found);
            }
            const auto size = random() % 3500 + 1;
            live[page] = {put(page, content(page + round * 10000, size)),
                          content(page + round * 10000, size)};
        }
        settle();
        compactAll(live);
        settle();
        const auto status = store_->status();
        EXPECT_EQ(status.liveRecords, live.size());
        EXPECT_LE(static_cast<double>(status.fileBytes),
                  options_.maxSpaceMultiple * static_cast<double>(status.liveBytes) + (1U << 20));
        struct stat info {};
        ASSERT_EQ(::fstat(file().get(), &info), 0);
        // The file system counts its list of extents too.
        EXPECT_LE(static_cast<std::uint64_t>(info.st_blocks) * 512, status.fileBytes + 32768);
        expectAll(live);
    }
}

TEST_F(FrozenStoreTest, aMoveThatCameTooLateIsGivenUp) {
    make();
    std::map<PageNumber, Live> live;
    for (PageNumber page = 0; page < 1000; ++page)
        live[page] = {put(page, content(page, 4000)), content(page, 4000)};
    settle();
    for (PageNumber page = 0; page < 1000; ++page)
        if (page % 8 != 0) {
            store_->release(live.at(page).slot);
            live.erase(page);
        }
    const auto moves = store_->compactOne();
    ASSERT_TRUE(moves);
    ASSERT_GE(moves->size(), 2U);
    // Both can be read until one is released.
    for (const auto& [page, from, to] : *moves) {
        EXPECT_EQ(get(page, from).value(), live.at(page).bytes);
        EXPECT_EQ(get(page, to).value(), live.at(page).bytes);
    }
    const auto again = store_->compactOne();
    ASSERT_TRUE(again);
    for (const auto& move : *again)
        EXPECT_NE(move.page, moves->front().page) << "copied twice";
    const auto late = moves->front().page;
    store_->release(live.at(late).slot);  // meanwhile the page was wanted
    live.erase(late);
    publish(*moves, live);
    publish(*again, live);
    EXPECT_EQ(store_->status().liveRecords, live.size());
    compactAll(live);
    settle();
    expectAll(live);
    EXPECT_EQ(store_->status().liveRecords, live.size());
}

TEST_F(FrozenStoreTest, compactionLeavesADamagedRecordWhereItIs) {
    make();
    std::map<PageNumber, Live> live;
    for (PageNumber page = 0; page < 4000; ++page)
        live[page] = {put(page, content(page, 4000)), content(page, 4000)};
    settle();
    for (PageNumber page = 0; page < 4000; ++page)
        if (page % 8 != 0) {
            store_->release(live.at(page).slot);
            live.erase(page);
        }
    const auto bad = live.at(3200).slot;
    overwrite(bad.offset() + 9, {std::byte{1}, std::byte{2}});
    compactAll(live);
    EXPECT_EQ(store_->status().damagedRecords, 1U);
    EXPECT_EQ(live.at(3200).slot, bad);
    EXPECT_FALSE(get(3200, bad));
    live.erase(3200);
    expectAll(live);
    store_->release(bad);
    EXPECT_EQ(store_->status().liveRecords, live.size());
}

// -- all at once --

TEST_F(FrozenStoreTest, behavesAsAMap) {
    options_.maxFileBytes = 24U << 20;
    options_.maxSpaceMultiple = 1.2;
    make();
    std::map<PageNumber, Live> live;
    std::mt19937_64 random(11);
    for (unsigned step = 0; step < 20000; ++step) {
        const PageNumber page = random() % 2500;
        const auto found = live.find(page);
        switch (random() % 16) {
            case 0:
            case 1:
            case 2:
            case 3:
            case 4:
            case 5:
            case 6: {
                if (found != live.end()) store_->release(found->second.slot);
                const auto size = random() % 4 == 0 ? pageBytes : random() % 2000 + 1;
                live[page] = {put(page, content(step, size)), content(step, size)};
                break;
            }
            case 7:
            case 8:
                if (found == live.end()) break;
                store_->release(found->second.slot);
                live.erase(found);
                break;
            case 9:
            case 10:
            case 11:
                if (found == live.end()) break;
                ASSERT_EQ(get(page, found->second.slot).value(), found->second.bytes);
                break;
            case 12:
                if (found == live.end()) break;
                ASSERT_EQ(getQueued(page, found->second.slot).value(), found->second.bytes);
                break;
            case 13:
                if (random() % 16 != 0) break;
                ASSERT_TRUE(store_->flush());
                break;
            case 14:
                ASSERT_TRUE(store_->poll());
                break;
            default: {
                const auto moves = store_->compactOne();
                if (moves)
                    publish(*moves, live);
                else
                    ASSERT_EQ(moves.error().code, ErrorCode::busy) << moves.error().message;
            }
        }
        ASSERT_EQ(store_->status().liveRecords, live.size());
    }
    settle();
    expectAll(live);
    for (const auto& [page, one] : live)
        store_->release(one.slot);
    ASSERT_TRUE(store_->poll());
    EXPECT_EQ(store_->status().fileBytes, 0U);
    EXPECT_EQ(store_->status().liveBytes, 0U);
}

TEST_F(FrozenStoreTest, oneThreadWritesAndCompactsWhileAnotherReads) {
    options_.maxSpaceMultiple = 1.1;
    make();
    constexpr PageNumber pages = 600;
    // As the page map: a slot and which content it has, per page, under a lock of its own.
    struct Entry {
        std::mutex mutex;
        std::optional<FrozenSlot> slot;
        std::uint64_t seed = 0;
    };
    std::vector<Entry> map(pages);
    const auto sizeOf = [](std::uint64_t seed) {
        return static_cast<std::size_t>(seed * 37 % pageBytes) + 1;
    };
    std::atomic<bool> stop{false};
    std::uint64_t moved = 0;
    std::thread writer([&] {
        std::mt19937_64 random(1);
        for (std::uint64_t seed = 1; seed <= 12000; ++seed) {
            auto& entry = map[random() % pages];
            const auto page = static_cast<PageNumber>(&entry - map.data());
            const auto slot = put(page, content(seed, sizeOf(seed)));
            {
                const std::lock_guard lock(entry.mutex);
                if (entry.slot) store_->release(*entry.slot);
                entry.slot = slot;
                entry.seed = seed;
            }
            if (seed % 8 != 0) continue;
            EXPECT_TRUE(store_->poll());
            const auto moves = store_->compactOne();
            if (!moves) {
                EXPECT_EQ(moves.error().code, ErrorCode::busy) << moves.error().message;
                continue;
            }
            for (const auto& [of, from, to] : *moves) {
                auto& target = map[of];
                const std::lock_guard lock(target.mutex);
                const bool current = target.slot == from;
                if (current) target.slot = to;
                store_->release(current ? from : to);
                ++moved;
            }
        }
        stop = true;
    });
    std::mt19937_64 random(2);
    std::uint64_t reads = 0;
    std::unordered_multimap<std::uint64_t, std::uint64_t> expected;  // of slots that are read: the seed
    std::uint64_t begun = 0;
    while (!stop || !expected.empty()) {
        while (!stop && expected.size() < 32) {
            const PageNumber page = random() % pages;
            auto& entry = map[page];
            const std::lock_guard lock(entry.mutex);
            if (!entry.slot) break;
            if (begun % 16 == 0) {
                // A page that comes back for good, as after a fault.
                const auto got = get(page, *entry.slot);
                ASSERT_TRUE(got) << got.error().message;
                ASSERT_EQ(*got, content(entry.seed, sizeOf(entry.seed)));
                store_->release(*entry.slot);
                entry.slot.reset();
                ++begun;
                break;
            }
            const auto submitted = submitRead(page, *entry.slot);
            if (!submitted) {
                ASSERT_EQ(submitted.error().code, ErrorCode::busy) << submitted.error().message;
                break;
            }
            expected.emplace(entry.slot->packed(), entry.seed);
            ++begun;
        }
        reads += store_->completions([&](const FrozenStore::ReadDone& done) {
            const auto found = expected.find(done.record.slot.packed());
            ASSERT_NE(found, expected.end());
            const auto seed = found->second;
            expected.erase(found);
            ASSERT_TRUE(done.bytes) << done.bytes.error().message;
            ASSERT_TRUE(std::ranges::equal(*done.bytes, content(seed, sizeOf(seed)))) << "wrong bytes";
        });
    }
    writer.join();
    EXPECT_GT(reads, 500U);
    EXPECT_GT(moved, 100U);
    EXPECT_EQ(store_->status().damagedRecords, 0U);
}

TEST_F(FrozenStoreTest, theKillSwitchMayComeAtAnyTime) {
    for (unsigned round = 0; round < 5; ++round) {
        make();
        std::vector<FrozenSlot> slots;
        for (PageNumber page = 0; page < 150; ++page)
            slots.push_back(put(page, content(page, 3000)));
        std::atomic<unsigned> running{0};
        const auto isOff = [](const Error& error) {
            return error.message == "the file tier was switched off";
        };
        std::thread writer([&] {
            ++running;
            for (PageNumber page = 1000;; ++page) {
                const auto slot = store_->put(page, content(page, 2000));
                if (slot) {
                    store_->release(*slot);
                } else if (slot.error().code != ErrorCode::busy) {
                    EXPECT_TRUE(isOff(slot.error())) << slot.error().message;
                    break;
                }
                (void)store_->wait();
                (void)store_->compactOne();
            }
        });
        std::thread reader([&] {
            ++running;
            std::size_t submitted = 0;
            std::size_t ended = 0;
            bool off = false;
            for (PageNumber page = 0; !off || ended < submitted; page = (page + 1) % slots.size()) {
                const auto got = get(page, slots[page]);
                off = !got;
                if (got)
                    EXPECT_EQ(*got, content(page, 3000));
                else
                    EXPECT_TRUE(isOff(got.error())) << got.error().message;
                if (submitRead(page, slots[page])) ++submitted;
                ended += store_->completions([&](const FrozenStore::ReadDone& done) {
                    if (done.bytes)
                        EXPECT_TRUE(std::ranges::equal(*done.bytes, content(done.record.page, 3000)));
                    else
                        EXPECT_TRUE(isOff(done.bytes.error())) << done.bytes.error().message;
                });
            }
        });
        while (running < 2)
            std::this_thread::yield();
        std::this_thread::sleep_for(round * 5ms);
        EXPECT_TRUE(store_->killSwitch());
        struct stat info {};
        ASSERT_EQ(::fstat(file().get(), &info), 0);
        EXPECT_EQ(info.st_size, 0) << "a write that was under way brought the file back";
        writer.join();
        reader.join();
        ASSERT_EQ(::fstat(file().get(), &info), 0);
        EXPECT_EQ(info.st_size, 0) << "something was written afterwards";
        EXPECT_EQ(store_->status().damagedRecords, 0U);
    }
}

// -- where it may be --

TEST_F(FrozenStoreTest, memoryIsNoPlaceForIt) {
    options_.directory = "/dev/shm";
    const auto store = FrozenStore::create(options_);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code, ErrorCode::notSupported);
    EXPECT_NE(store.error().message.find("/dev/shm"), std::string::npos);
    EXPECT_NE(store.error().message.find("name a directory on a disk"), std::string::npos)
        << store.error().message;
    options_.allowBuffered = true;
    EXPECT_TRUE(FrozenStore::create(options_));
}

TEST_F(FrozenStoreTest, aFileSystemWithoutDirectIsRefused) {
    options_.seams.open = [](const char* path, int flags, mode_t mode) {
        if ((flags & O_DIRECT) == 0) return ::open(path, flags, mode);
        errno = EINVAL;
        return -1;
    };
    const auto store = FrozenStore::create(options_);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code, ErrorCode::notSupported);
    EXPECT_NE(store.error().message.find("O_DIRECT"), std::string::npos) << store.error().message;
}

TEST_F(FrozenStoreTest, aFileSystemWithoutUnnamedFilesDoesToo) {
    unsigned refused = 0;
    options_.seams.open = [&](const char* path, int flags, mode_t mode) {
        if ((flags & O_TMPFILE) != O_TMPFILE) return ::open(path, flags, mode);
        ++refused;
        errno = EOPNOTSUPP;
        return -1;
    };
    make();
    EXPECT_EQ(refused, 1U);
    EXPECT_TRUE(std::filesystem::is_empty(directory_)) << "it has a name";
    const auto slot = put(1, content(1, 4096));
    settle();
    EXPECT_EQ(get(1, slot).value(), content(1, 4096));
    struct stat info {};
    ASSERT_EQ(::fstat(file().get(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U);
    EXPECT_NE(::fcntl(file().get(), F_GETFD), -1);
}

TEST_F(FrozenStoreTest, optionsOutOfRangeAreRefused) {
    const auto refused = [&](auto change) {
        auto options = options_;
        change(options);
        const auto store = FrozenStore::create(options);
        return !store && store.error().code == ErrorCode::invalidArgument;
    };
    EXPECT_TRUE(refused([](auto& options) { options.maxFileBytes = 4 * segmentBytes - 1; }));
    EXPECT_TRUE(refused([](auto& options) { options.maxSpaceMultiple = 1.0; }));
    EXPECT_TRUE(refused([](auto& options) { options.writesUnderWay = 0; }));
    EXPECT_TRUE(refused([](auto& options) { options.readsUnderWay = 1025; }));
    options_.directory = directory_ + "/nowhere";
    const auto store = FrozenStore::create(options_);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code, ErrorCode::invalidArgument);
    EXPECT_NE(store.error().message.find("nowhere"), std::string::npos);
}

}  // namespace
}  // namespace thermocline::memory
