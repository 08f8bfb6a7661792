// SPDX-License-Identifier: Apache-2.0
#include "memory/page_map.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace thermocline::memory {
namespace {

TEST(PageEntry, holdsWhatItIsGiven) {
    const Slot last{(std::uint64_t{1} << 40) / 64, SlotAllocator::maxSlotBytes};
    EXPECT_EQ(PageEntry::cold(last).slot(), last);
    EXPECT_EQ(PageEntry::cold(last).state(), PageState::cold);
    EXPECT_EQ(PageEntry::filled(0xffffffff).fillWord(), 0xffffffffU);
    EXPECT_EQ(PageEntry::filled(0).state(), PageState::filled);
    EXPECT_TRUE(PageEntry::staged(true).incompressible());
    EXPECT_FALSE(PageEntry::staged().incompressible());
    EXPECT_FALSE(PageEntry::filled(1).incompressible());
    EXPECT_EQ(PageEntry(), PageEntry::absent());
}

TEST(PageMap, countsEveryState) {
    char path[] = "/dev/shm/thermocline-test-XXXXXX";
    const std::string directory = ::mkdtemp(path);
    {
        auto map = PageMap::create(directory + "/pagemap", 2);
        ASSERT_TRUE(map);
        EXPECT_EQ(map->count(PageState::absent), 1024U);
        map->set(5, PageEntry::resident());
        map->set(6, PageEntry::resident());
        map->set(600, PageEntry::staged());
        map->set(6, PageEntry::filled(3));
        map->set(6, PageEntry::filled(4));
        EXPECT_EQ(map->count(PageState::absent), 1021U);
        EXPECT_EQ(map->count(PageState::resident), 1U);
        EXPECT_EQ(map->count(PageState::staged), 1U);
        EXPECT_EQ(map->count(PageState::filled), 1U);
        EXPECT_TRUE(map->pagesIn(0, PageState::resident).test(5));
        EXPECT_EQ(map->pagesIn(0, PageState::resident).count(), 1U);
        EXPECT_TRUE(map->pagesIn(1, PageState::staged).test(600 - 512));
        map->setAll(4, 600, PageEntry::resident());  // over several states
        EXPECT_EQ(map->count(PageState::absent), 1024U - 600);
        EXPECT_EQ(map->count(PageState::resident), 600U);
        EXPECT_EQ(map->count(PageState::staged) + map->count(PageState::filled), 0U);
        EXPECT_EQ(map->metadataBytes(), 8192U);
        EXPECT_FALSE(PageMap::create(directory + "/pagemap", 2)) << "a map was put over another";
    }
    std::filesystem::remove_all(directory);
}

TEST(BlockMask, runsCoverWhatIsSet) {
    BlockMask mask;
    for (const std::size_t page : {0U, 1U, 63U, 64U, 65U, 511U})
        mask.set(page);
    std::vector<std::pair<std::size_t, std::size_t>> runs;
    mask.forEachRun([&](std::size_t first, std::size_t count) { runs.emplace_back(first, count); });
    EXPECT_EQ(runs, (std::vector<std::pair<std::size_t, std::size_t>>{{0, 2}, {63, 3}, {511, 1}}));
    EXPECT_EQ(allPages().count(), 512U);
}

}  // namespace
}  // namespace thermocline::memory
