// SPDX-License-Identifier: Apache-2.0
#include "memory/page_map.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace thermocline::memory {
namespace {

TEST(PageEntry, holdsWhatItIsGiven) {
    const Slot last{(std::uint64_t{1} << 36) - 1, SlotAllocator::maxSlotBytes};
    EXPECT_EQ(PageEntry::cold(last).slot(), last);
    EXPECT_EQ(PageEntry::cold(last).state(), PageState::cold);
    EXPECT_EQ(PageEntry::filled(0xffffffff).fillWord(), 0xffffffffU);
    EXPECT_EQ(PageEntry::filled(0).state(), PageState::filled);
    EXPECT_TRUE(PageEntry::staged().asIncompressible().incompressible());
    EXPECT_FALSE(PageEntry::staged().incompressible());
    EXPECT_FALSE(PageEntry::filled(0xffffffff).incompressible());
    EXPECT_EQ(PageEntry::filled(0xffffffff).slot(), Slot{});
    EXPECT_EQ(PageEntry(), PageEntry::absent());
    EXPECT_EQ(PageEntry::resident().heat(), Heat{});
    EXPECT_EQ(PageEntry::resident().slot(), Slot{});
    const auto resident = PageEntry::resident(Heat{3, 7}, last);
    EXPECT_EQ(resident.state(), PageState::resident);
    EXPECT_EQ(resident.heat(), (Heat{3, 7}));
    EXPECT_EQ(resident.slot(), last);
    EXPECT_FALSE(resident.incompressible());
    EXPECT_TRUE(resident.asIncompressible().withSlot({}).incompressible());
    EXPECT_EQ(resident.asIncompressible().asIncompressible(false), resident);
    const auto staged = PageEntry::staged(2, last).asIncompressible();
    EXPECT_EQ(staged.state(), PageState::staged);
    EXPECT_EQ(staged.heat(), (Heat{2, 0}));
    EXPECT_EQ(staged.slot(), last);
    EXPECT_TRUE(staged.incompressible());
    EXPECT_FALSE(PageEntry::staged(3, last).incompressible());
    EXPECT_EQ(staged.withSlot({5, 6}), PageEntry::staged(2, {5, 6}).asIncompressible());
    EXPECT_EQ(PageEntry::cold(last).withSlot({5, 6}), PageEntry::cold({5, 6}));
}

TEST(Heat, aPageTouchedAgainAndAgainIsProbedEverLess) {
    Heat heat;
    std::vector<unsigned> skips;
    for (int i = 0; i < 4; ++i) {
        heat = heat.touched();
        skips.push_back(heat.skip);
    }
    EXPECT_EQ(skips, (std::vector<unsigned>{1, 3, 7, 7}));
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
