// SPDX-License-Identifier: Apache-2.0
#include "memory/cold_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <vector>

namespace thermocline::memory {
namespace {

using Page = std::array<std::byte, pageBytes>;

Page halfNoise(unsigned seed) {
    Page page{};
    std::mt19937 random(seed);
    for (std::size_t i = 0; i < pageBytes / 2; ++i)
        page[i] = static_cast<std::byte>(random());
    return page;
}

class ColdStoreTest : public ::testing::Test {
  protected:
    void SetUp() override {
        char path[] = "/dev/shm/thermocline-test-XXXXXX";
        directory_ = ::mkdtemp(path);
        auto store = ColdStore::create(directory_ + "/arena", 64U << 20);
        ASSERT_TRUE(store) << store.error().message;
        store_ = std::move(*store);
    }
    void TearDown() override {
        store_.reset();
        std::filesystem::remove_all(directory_);
    }
    Slot put(PageNumber number, const Page& page) {
        // Both algorithms, in turns.
        const auto algorithm = number % 2 == 0 ? Algorithm::zstd : Algorithm::lz4;
        const auto slot =
            store_->put(number, ContentHash::of(number, page), codec_.compress(page, algorithm), algorithm);
        EXPECT_EQ(store_->algorithmOf(*slot), algorithm);
        EXPECT_TRUE(slot);
        return *slot;
    }

    std::string directory_;
    std::unique_ptr<ColdStore> store_;
    PageCodec codec_;
};

TEST(PageCodec, roundTripsAndKnowsWhatIsNotWorthASlot) {
    Page noise;
    std::mt19937 random(2);
    for (auto& byte : noise)
        byte = static_cast<std::byte>(random());
    PageCodec codec;
    for (const auto algorithm : {Algorithm::zstd, Algorithm::lz4, Algorithm::zstd}) {
        const auto page = halfNoise(1);
        const auto compressed = codec.compress(page, algorithm);
        ASSERT_FALSE(compressed.empty());
        EXPECT_LT(compressed.size(), pageBytes * 6 / 10);
        Page back;
        ASSERT_TRUE(codec.decompress(compressed, algorithm, back));
        EXPECT_EQ(back, page);
        EXPECT_FALSE(codec.decompress(compressed.first(compressed.size() / 2), algorithm, back));
        EXPECT_TRUE(codec.compress(noise, algorithm).empty());
    }
}

TEST(PageCodec, recognisesOneWordRepeated) {
    Page page{};
    EXPECT_EQ(PageCodec::sameFilled(page), 0U);
    PageCodec::fill(page, 0xdeadbeef);
    EXPECT_EQ(PageCodec::sameFilled(page), 0xdeadbeefU);
    for (const std::size_t at : {std::size_t{0}, std::size_t{3}, pageBytes / 2, pageBytes - 1}) {
        auto other = page;
        other[at] ^= std::byte{1};
        EXPECT_EQ(PageCodec::sameFilled(other), std::nullopt) << at;
    }
}

TEST_F(ColdStoreTest, givesBackWhatWasPut) {
    std::vector<Slot> slots;
    for (unsigned i = 0; i < 2000; ++i)
        slots.push_back(put(i, halfNoise(i)));
    Page page;
    for (unsigned i = 0; i < 2000; ++i) {
        ASSERT_TRUE(store_->get(i, slots[i], codec_, page));
        ASSERT_EQ(page, halfNoise(i)) << i;
    }
    EXPECT_LE(store_->slotBytes(), store_->storedBytes());
    EXPECT_LT(store_->storedBytes(), 2000 * pageBytes * 6 / 10 + (1U << 20));
    for (const auto slot : slots)
        store_->release(slot);
    store_->trim();
    EXPECT_EQ(store_->storedBytes(), 0U);
    struct stat info {};
    ASSERT_EQ(::stat((directory_ + "/arena").c_str(), &info), 0);
    EXPECT_EQ(info.st_blocks, 0) << "memory was not given back";
    EXPECT_EQ(info.st_mode & 0777, 0600U);
}

TEST_F(ColdStoreTest, aDamagedOrForeignSlotIsDetected) {
    const auto slot = put(7, halfNoise(7));
    Page page;
    ASSERT_TRUE(store_->get(7, slot, codec_, page));
    EXPECT_FALSE(store_->get(8, slot, codec_, page)) << "the slot of another page was accepted";
    const UniqueFd file(::open((directory_ + "/arena").c_str(), O_RDWR));
    for (const std::uint32_t at : {0U, 3U, 4U, 15U, 16U, slot.bytes / 2, slot.bytes - 1}) {
        std::byte byte{};
        const auto offset = static_cast<off_t>(slot.offset() + at);
        ASSERT_EQ(::pread(file.get(), &byte, 1, offset), 1);
        const auto flipped = byte ^ std::byte{0x10};
        ASSERT_EQ(::pwrite(file.get(), &flipped, 1, offset), 1);
        const auto got = store_->get(7, slot, codec_, page);
        ASSERT_FALSE(got) << "a flipped bit at " << at << " went unnoticed";
        EXPECT_NE(got.error().message.find("damaged"), std::string::npos);
        ASSERT_EQ(::pwrite(file.get(), &byte, 1, offset), 1);
    }
    EXPECT_TRUE(store_->get(7, slot, codec_, page));
}

TEST_F(ColdStoreTest, knowsAPageThatItHolds) {
    auto page = halfNoise(3);
    const auto slot = put(3, page);
    EXPECT_EQ(store_->contentOf(slot), ContentHash::of(3, page));
    EXPECT_NE(store_->contentOf(slot), ContentHash::of(4, page));
    for (const std::size_t at : {std::size_t{0}, pageBytes / 2, pageBytes - 1}) {
        page[at] ^= std::byte{1};
        EXPECT_NE(store_->contentOf(slot), ContentHash::of(3, page)) << at;
        page[at] ^= std::byte{1};
    }
}

TEST(ColdStoreFull, aFullFileSystemIsAnErrorNotASignal) {
    char path[] = "/tmp/thermocline-test-XXXXXX";
    const std::string directory = ::mkdtemp(path);
    ASSERT_EQ(::mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=1m"), 0) << "needs root";
    {
        auto store = ColdStore::create(directory + "/arena", 64U << 20);
        ASSERT_TRUE(store);
        PageCodec codec;
        Result<Slot> slot = Slot{};
        PageNumber number = 0;
        std::vector<Slot> slots;
        const auto putNext = [&] {
            const auto page = halfNoise(static_cast<unsigned>(number));
            return (*store)->put(number, ContentHash::of(number, page), codec.compress(page, Algorithm::zstd),
                                 Algorithm::zstd);
        };
        while ((slot = putNext())) {
            slots.push_back(*slot);
            ASSERT_LT(++number, 1000U);
        }
        EXPECT_EQ(slot.error().code, ErrorCode::outOfMemory);
        EXPECT_GT(number, 300U);
        Page page;
        for (PageNumber i = 0; i < number; ++i) {
            ASSERT_TRUE((*store)->get(i, slots[i], codec, page));
            ASSERT_EQ(page, halfNoise(static_cast<unsigned>(i)));
        }
    }
    EXPECT_EQ(::umount(directory.c_str()), 0);
    std::filesystem::remove(directory);
}

}  // namespace
}  // namespace thermocline::memory
