// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_ledger.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "memory/frozen_store.h"

namespace thermocline::memory {
namespace {

class FrozenLedgerTest : public ::testing::Test {
  protected:
    void SetUp() override {
        char path[] = "/dev/shm/thermocline-ledger-XXXXXX";
        ASSERT_NE(::mkdtemp(path), nullptr);
        directory_ = path;
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }
    [[nodiscard]] std::string path() const { return directory_ + "/frozen"; }

    std::string directory_;
};

TEST_F(FrozenLedgerTest, givesBackWhatWasWrittenDown) {
    constexpr FrozenFile::Identity identity{1, 2, 3};
    const auto now = std::chrono::steady_clock::now();
    {
        const auto ledger = FrozenLedger::create(path(), 5, 1U << 30);
        ASSERT_TRUE(ledger) << ledger.error().message;
        EXPECT_TRUE((*ledger)->serials().empty());
        for (FrozenSegments::Index i = 0; i < 700; ++i)
            ASSERT_TRUE((*ledger)->setSerial(i, 1000 + i));
        ASSERT_TRUE((*ledger)->setSerial(3, 5000));
        (*ledger)->setFile(identity);
        (*ledger)->setSegment(2, 699);
        ASSERT_TRUE((*ledger)->reserveBuffer(2));
        (*ledger)->buffer(2)[7] = std::byte{42};
        (*ledger)->written().add(now, 4711);
    }
    struct stat info {};
    ASSERT_EQ(::stat(path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U);
    const auto ledger = FrozenLedger::open(path());
    ASSERT_TRUE(ledger) << ledger.error().message;
    const auto serials = (*ledger)->serials();
    ASSERT_EQ(serials.size(), 700U);
    EXPECT_EQ(serials[3], 5000U);
    EXPECT_EQ(serials[699], 1699U);
    EXPECT_EQ((*ledger)->file(), identity);
    EXPECT_EQ((*ledger)->buffers(), 5U);
    EXPECT_EQ((*ledger)->segmentIn(2), 699U);
    EXPECT_EQ((*ledger)->segmentIn(1), FrozenLedger::none);
    EXPECT_EQ((*ledger)->buffer(2)[7], std::byte{42});
    EXPECT_EQ((*ledger)->written().lastDay(now), 4711U);
    EXPECT_FALSE((*ledger)->closing());
    ASSERT_TRUE((*ledger)->setSerial(700, 1)) << "it grows on";
    EXPECT_EQ((*ledger)->serials().size(), 701U);
}

TEST_F(FrozenLedgerTest, takesNoMoreSegmentsThanPlanned) {
    const auto ledger = FrozenLedger::create(path(), 1, 4 * FrozenSegments::segmentBytes);
    ASSERT_TRUE(ledger);
    EXPECT_TRUE((*ledger)->setSerial(500, 1));
    EXPECT_EQ((*ledger)->setSerial(2000, 1).error().code, ErrorCode::outOfMemory);
}

TEST_F(FrozenLedgerTest, whatIsNoLedgerIsRefused) {
    EXPECT_EQ(FrozenLedger::open(path()).error().code, ErrorCode::notAttached);
    for (const std::size_t bytes : {0U, 100U, 4096U, 266'240U, 300'000U, 400'000U}) {
        std::ofstream(path(), std::ios::trunc) << std::string(bytes, '\xa5');
        EXPECT_EQ(FrozenLedger::open(path()).error().code, ErrorCode::notSupported) << bytes;
    }
}

TEST_F(FrozenLedgerTest, takesMemoryForABufferWhenItIsUsed) {
    const auto onDisk = [&] {
        struct stat info {};
        EXPECT_EQ(::stat(path().c_str(), &info), 0);
        return static_cast<std::uint64_t>(info.st_blocks) * 512;
    };
    {
        const auto ledger = FrozenLedger::create(path(), 5, 1U << 30);
        ASSERT_TRUE(ledger);
        EXPECT_EQ((*ledger)->bytes(), pageBytes);
        EXPECT_EQ(onDisk(), pageBytes);
        for (int twice = 0; twice < 2; ++twice) {
            ASSERT_TRUE((*ledger)->reserveBuffer(3));
            EXPECT_EQ((*ledger)->bytes(), pageBytes + FrozenSegments::segmentBytes);
            EXPECT_EQ(onDisk(), (*ledger)->bytes());
        }
        std::fill_n((*ledger)->buffer(3), FrozenSegments::segmentBytes, std::byte{1});
    }
    const auto ledger = FrozenLedger::open(path());
    ASSERT_TRUE(ledger);
    EXPECT_EQ((*ledger)->bytes(), pageBytes + FrozenSegments::segmentBytes);
}

TEST_F(FrozenLedgerTest, aFullFileSystemIsAnErrorNotASignal) {
    ASSERT_EQ(::mount("tmpfs", directory_.c_str(), "tmpfs", 0, "size=1m"), 0) << "needs root";
    const auto fill = [&] { std::ofstream(directory_ + "/rest") << std::string(2U << 20, 'x'); };
    fill();
    EXPECT_EQ(FrozenLedger::create(path(), 5, 1U << 30).error().code, ErrorCode::outOfMemory);
    EXPECT_FALSE(std::filesystem::exists(path()));
    std::filesystem::remove(directory_ + "/rest");
    {
        const auto ledger = FrozenLedger::create(path(), 2, 1U << 30);
        ASSERT_TRUE(ledger) << ledger.error().message;
        fill();
        EXPECT_EQ((*ledger)->setSerial(0, 1).error().code, ErrorCode::outOfMemory);
        EXPECT_EQ((*ledger)->reserveBuffer(0).error().code, ErrorCode::outOfMemory);
        EXPECT_TRUE((*ledger)->serials().empty());
        std::filesystem::remove(directory_ + "/rest");
        EXPECT_TRUE((*ledger)->setSerial(0, 1));
    }
    EXPECT_EQ(::umount(directory_.c_str()), 0);
}

/// The file tier then takes no more pages, and gives back those that it has.
TEST_F(FrozenLedgerTest, aStoreWhoseLedgerCannotGrowSaysSo) {
    ASSERT_EQ(::mount("tmpfs", directory_.c_str(), "tmpfs", 0, "size=2m"), 0) << "needs root";
    {
        FrozenOptions options;
        options.directory = std::filesystem::read_symlink("/proc/self/exe").parent_path();
        options.maxFileBytes = 1U << 30;
        options.ledger = path();
        const auto store = FrozenStore::create(options);
        ASSERT_TRUE(store) << store.error().message;
        std::ofstream(directory_ + "/rest") << std::string(2U << 20, 'x');
        const std::vector<std::byte> bytes(1000, std::byte{7});
        const auto slot = (*store)->put(1, bytes);
        ASSERT_FALSE(slot);
        EXPECT_EQ(slot.error().code, ErrorCode::outOfMemory) << slot.error().message;
        std::filesystem::remove(directory_ + "/rest");
        const auto again = (*store)->put(1, bytes);
        ASSERT_TRUE(again) << again.error().message;
        std::vector<std::byte> into(pageBytes);
        EXPECT_TRUE((*store)->get(1, *again, into));
    }
    EXPECT_EQ(::umount(directory_.c_str()), 0);
}

}  // namespace
}  // namespace thermocline::memory
