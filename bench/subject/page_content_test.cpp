// SPDX-License-Identifier: Apache-2.0
#include "bench/subject/page_content.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <vector>

namespace thermocline::bench {
namespace {

using Page = std::array<std::uint64_t, pageBytes / 8>;

Page contentOf(std::uint64_t page) {
    Page words{};
    fillPage(page, words);
    return words;
}

TEST(PageContent, isAPureFunctionOfThePage) {
    for (const std::uint64_t page : {0, 17, 12345})
        EXPECT_EQ(contentOf(page), contentOf(page));
}

TEST(PageContent, noTwoPagesAreAlikeButZeros) {
    std::set<std::vector<std::uint64_t>> seen;
    for (std::uint64_t page = 0; page < 5000; ++page) {
        const auto words = contentOf(page);
        if (kindOf(page) == PageKind::zero) continue;
        ASSERT_TRUE(seen.emplace(words.begin(), words.end()).second) << page;
    }
}

TEST(PageContent, sameFilledPagesAreSameFilledWithTheirTag) {
    for (std::uint64_t page = 0; page < 5000; ++page) {
        const auto kind = kindOf(page);
        if (kind != PageKind::zero && kind != PageKind::oneWord) continue;
        const auto words = contentOf(page);
        ASSERT_TRUE(
            std::all_of(words.begin(), words.end(), [&](auto word) { return word == firstTag(page); }));
        ASSERT_EQ(words[0] >> 32, words[0] & 0xffffffff);  // for a store that looks at 32 bits
    }
}

TEST(PageContent, everyPageHasItsTag) {
    for (std::uint64_t page = 0; page < 5000; ++page)
        ASSERT_EQ(contentOf(page)[tagOffset(page) / 8], firstTag(page));
}

TEST(PageContent, kindsHaveTheirShares) {
    constexpr std::uint64_t pages = 100000;
    std::map<PageKind, double> share;
    for (std::uint64_t page = 0; page < pages; ++page)
        share[kindOf(page)] += 100.0 / pages;
    EXPECT_NEAR(share[PageKind::zero] + share[PageKind::oneWord], 10, 1);
    EXPECT_NEAR(share[PageKind::noise], 10, 1);
}

TEST(PageContent, tagsCountWritesAndNameTheirPage) {
    const auto once = nextTag(7, firstTag(7));
    EXPECT_NE(once, firstTag(7));
    EXPECT_EQ(nextTag(7, once), once + 1);
    EXPECT_NE(nextTag(7, once), nextTag(8, once));
}

}  // namespace
}  // namespace thermocline::bench
