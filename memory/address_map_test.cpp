// SPDX-License-Identifier: Apache-2.0
#include "memory/address_map.h"

#include <gtest/gtest.h>

namespace thermocline::memory {
namespace {

constexpr std::uint64_t huge = blockBytes;

TEST(AddressMap, hugePagesLineUpWithBlocks) {
    // One aligned range, and one that starts in the middle of a huge page.
    const AddressMap map({{{10 * huge}, 4 * huge}, {{20 * huge + 5 * pageBytes}, 2 * huge}});
    EXPECT_EQ(map.blocks(), 4U + 3U);
    EXPECT_EQ(map.pages(), 6 * pagesPerBlock);
    EXPECT_EQ(map.pageAt({10 * huge}), 0U);
    EXPECT_EQ(map.pageAt({14 * huge}), std::nullopt);
    EXPECT_EQ(map.pageAt({20 * huge + 5 * pageBytes}), 4 * pagesPerBlock + 5);
    EXPECT_EQ(map.addressOf(4 * pagesPerBlock + 5), (VmAddress{20 * huge + 5 * pageBytes}));
    EXPECT_EQ(map.addressOf(4 * pagesPerBlock + 4), std::nullopt);
    EXPECT_EQ(map.wholeBlock(3), (VmAddress{13 * huge}));
    EXPECT_EQ(map.wholeBlock(4), std::nullopt) << "its first pages are not mapped";
    EXPECT_EQ(map.wholeBlock(5), (VmAddress{21 * huge}));
    EXPECT_EQ(map.wholeBlock(6), std::nullopt);
}

TEST(AddressMap, unmapCutsAndRemapMoves) {
    AddressMap map({{{10 * huge}, 4 * huge}});
    map.unmap({{11 * huge}, huge / 2});
    EXPECT_EQ(map.pages(), 4 * pagesPerBlock - pagesPerBlock / 2);
    EXPECT_EQ(map.pageAt({11 * huge}), std::nullopt);
    EXPECT_EQ(map.pageAt({11 * huge + huge / 2}), pagesPerBlock + pagesPerBlock / 2);
    EXPECT_EQ(map.wholeBlock(1), std::nullopt);
    map.remap({{12 * huge}, huge}, {50 * huge});
    EXPECT_EQ(map.pageAt({12 * huge}), std::nullopt);
    EXPECT_EQ(map.pageAt({50 * huge + pageBytes}), 2 * pagesPerBlock + 1) << "page numbers never change";
    EXPECT_EQ(map.wholeBlock(2), (VmAddress{50 * huge}));
    map.remap({{50 * huge}, huge}, {60 * huge + pageBytes});
    EXPECT_EQ(map.wholeBlock(2), std::nullopt) << "no huge page can be at that address";
    EXPECT_EQ(map.within({{0}, 100 * huge}).size(), 4U);
    map.unmap({{0}, 100 * huge});
    EXPECT_EQ(map.pages(), 0U);
}

}  // namespace
}  // namespace thermocline::memory
