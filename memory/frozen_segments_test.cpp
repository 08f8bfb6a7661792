// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_segments.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <utility>

#include "memory/day_budget.h"

namespace thermocline::memory {
namespace {

constexpr auto segmentBytes = FrozenSegments::segmentBytes;
using State = FrozenSegments::State;

TEST(FrozenSlot, fitsAPageEntry) {
    const FrozenSlot last{(std::uint64_t{1} << FrozenSlot::offsetBits) - 1, pageBytes};
    EXPECT_LT(last.packed(), std::uint64_t{1} << 61);
    EXPECT_EQ(FrozenSlot::unpacked(last.packed()), last);
    const FrozenSlot first{0, 1};
    EXPECT_EQ(FrozenSlot::unpacked(first.packed()), first);
}

TEST(FrozenSegments, aSegmentGoesRoundItsStates) {
    FrozenSegments segments(8 * segmentBytes);
    const auto index = segments.open(0).value();
    EXPECT_EQ(segments.fileBytes(), segmentBytes);
    const auto one = segments.append(index, 5, 1);
    const auto two = segments.append(index, 6, pageBytes);
    EXPECT_EQ(one.offset(), 0U);
    EXPECT_EQ(two.offset(), 32U) << "one byte, a tag, and the rest of the granule";
    EXPECT_EQ(segments.liveBytes(), 32U + pageBytes + 16);
    ASSERT_TRUE(segments.seal(index));
    EXPECT_EQ(segments.fileBytes(), 2U * 4096) << "the rest of the segment was never written";
    segments.written(index);
    EXPECT_TRUE(segments.holds(5, one));
    EXPECT_FALSE(segments.holds(6, one));
    EXPECT_FALSE(segments.holds(5, {one.granule, 2}));
    EXPECT_FALSE(segments.holds(5, {one.granule + 1, 1}));
    EXPECT_FALSE(segments.holds(5, {one.granule + (1U << 20), 1}));
    EXPECT_TRUE(segments.release(one));
    EXPECT_FALSE(segments.release(one));
    segments.pin(index);
    EXPECT_TRUE(segments.release(two));
    EXPECT_EQ(segments.state(index), State::written) << "somebody reads it";
    segments.unpin(index);
    EXPECT_EQ(segments.state(index), State::spent);
    EXPECT_EQ(segments.occupiedBytes(), 0U);
    EXPECT_EQ(segments.fileBytes(), 2U * 4096);
    ASSERT_EQ(segments.takeSpent(), index);
    segments.becameHole(index);
    EXPECT_EQ(segments.fileBytes(), 0U);
    EXPECT_EQ(segments.open(0), index);
    EXPECT_FALSE(segments.holds(6, two)) << "a slot of an earlier filling";
}

TEST(FrozenSegments, theBoundHolds) {
    FrozenSegments segments(4 * segmentBytes);
    std::vector<FrozenSegments::Index> opened;
    while (const auto index = segments.open(segmentBytes))
        opened.push_back(*index);
    EXPECT_EQ(opened.size(), 3U) << "one is left for who reserves nothing";
    EXPECT_TRUE(segments.open(0));
    EXPECT_FALSE(segments.open(0));
    EXPECT_FALSE(segments.seal(opened[0])) << "nothing in it";
    EXPECT_EQ(segments.fileBytes(), 3 * segmentBytes);
    EXPECT_EQ(segments.open(0), opened[0]);
}

TEST(FrozenSegments, theEmptiestIsFound) {
    FrozenSegments segments(64 * segmentBytes);
    std::vector<std::vector<FrozenSlot>> slots;
    for (PageNumber page = 0; slots.size() < 8;) {
        const auto index = segments.open(0).value();
        auto& mine = slots.emplace_back();
        while (segments.fits(index, 2000))
            mine.push_back(segments.append(index, page++, 2000));
        ASSERT_TRUE(segments.seal(index));
        segments.written(index);
    }
    EXPECT_FALSE(segments.emptiest(15)) << "all are full";
    const auto releaseAllBut = [&](std::size_t segment, std::size_t left) {
        while (slots[segment].size() > left) {
            ASSERT_TRUE(segments.release(slots[segment].back()));
            slots[segment].pop_back();
        }
    };
    releaseAllBut(3, 60);
    EXPECT_EQ(segments.emptiest(15), 3U);
    EXPECT_FALSE(segments.emptiest(4));
    releaseAllBut(6, 20);
    EXPECT_EQ(segments.emptiest(15), 6U);
    releaseAllBut(1, 5);
    EXPECT_EQ(segments.emptiest(15), 1U);
    EXPECT_EQ(segments.liveRecords(1).size(), 5U);
    for (const auto slot : slots[1])
        segments.setAside(slot);
    EXPECT_EQ(segments.emptiest(15), 6U) << "compaction is done with the other";
    EXPECT_TRUE(segments.liveRecords(1).empty());
    releaseAllBut(1, 0);
    EXPECT_EQ(segments.state(1), State::spent);
    releaseAllBut(6, 0);
    EXPECT_EQ(segments.emptiest(15), 3U);
}

TEST(FrozenSegments, noNonceIsUsedTwiceAndTheCountsAreRight) {
    FrozenSegments segments(16 * segmentBytes);
    std::mt19937_64 random(1);
    std::set<std::pair<std::uint64_t, std::uint32_t>> nonces;
    std::map<std::uint64_t, FrozenRecord> live;
    std::uint64_t liveBytes = 0;
    auto open = segments.open(0).value();
    for (unsigned step = 0; step < 60000; ++step) {
        const auto bytes = random() % pageBytes + 1;
        if (live.size() > 600 || (random() % 3 == 0 && !live.empty())) {
            auto victim = live.lower_bound(random() % (16 * segmentBytes / 16));
            if (victim == live.end()) victim = live.begin();
            liveBytes -= FrozenSegments::recordBytes(victim->second.slot.bytes);
            ASSERT_TRUE(segments.release(victim->second.slot));
            live.erase(victim);
            continue;
        }
        if (!segments.fits(open, bytes)) {
            if (segments.seal(open)) segments.written(open);
            auto next = segments.open(0);
            if (!next) {
                for (const auto& [granule, record] : live)
                    ASSERT_TRUE(segments.release(record.slot));
                live.clear();
                liveBytes = 0;
                next = segments.open(0);
            }
            open = next.value();
        }
        const auto slot = segments.append(open, step, bytes);
        ASSERT_TRUE(nonces.emplace(segments.serial(open), static_cast<std::uint32_t>(slot.granule)).second);
        ASSERT_TRUE(live.emplace(slot.granule, FrozenRecord{step, slot}).second)
            << "two records at one place";
        liveBytes += FrozenSegments::recordBytes(bytes);
        ASSERT_EQ(segments.liveBytes(), liveBytes);
    }
    EXPECT_EQ(segments.liveRecordCount(), live.size());
    for (const auto& [granule, record] : live)
        ASSERT_TRUE(segments.holds(record.page, record.slot));
}

TEST(DayBudget, countsAtLeastTwentyFourHours) {
    using namespace std::chrono_literals;
    const DayBudget::Time start(1000h);
    DayBudget budget;
    budget.add(start + 59min, 100);
    budget.add(start + 5h, 10);
    EXPECT_EQ(budget.lastDay(start + 5h), 110U);
    EXPECT_EQ(budget.lastDay(start + 24h + 59min), 110U);
    EXPECT_EQ(budget.lastDay(start + 25h), 10U);
    budget.add(start + 25h, 1);
    EXPECT_EQ(budget.lastDay(start + 25h), 11U);
    EXPECT_EQ(budget.lastDay(start + 200h), 0U);
}

}  // namespace
}  // namespace thermocline::memory
