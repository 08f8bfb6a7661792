// SPDX-License-Identifier: Apache-2.0
#include "memory/stream_detector.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace thermocline::memory {
namespace {

constexpr std::int64_t base = 0x7f0000000;

/// Reads `count` pages from `first` on; how many of them faulted. Pages brought along do not.
unsigned readThrough(StreamDetector& detector, std::int64_t first, std::int64_t stride, unsigned count) {
    unsigned faults = 0;
    std::int64_t there = first;  // the first page of the stream that is not there
    for (unsigned i = 0; i < count; ++i) {
        const auto page = first + i * stride;
        if ((page - there) / stride < 0) continue;
        ++faults;
        const auto ahead = detector.fault(page);
        there = page + stride * (static_cast<std::int64_t>(ahead.count) + 1);
        if (ahead.count == 0) continue;
        EXPECT_EQ(ahead.first, page + stride);
        EXPECT_EQ(ahead.stride, stride);
    }
    return faults;
}

TEST(StreamDetector, aStreamCostsThreeFaultsAndThenEverFewer) {
    for (const std::int64_t stride : {1, -1, 8, -8, 256}) {
        StreamDetector detector;
        EXPECT_EQ(readThrough(detector, base, stride, 3), 3U);
        StreamDetector fresh;
        // 2 + windows of 5, 9, 17, 33, 65, then 129 for each fault.
        EXPECT_EQ(readThrough(fresh, base, stride, 2 + 5 + 9 + 17 + 33 + 65 + 3 * 129), 2U + 5U + 3U);
    }
}

TEST(StreamDetector, neighboursThatComeTogetherDoNotHideAStream) {
    constexpr unsigned together = 32;
    for (const std::int64_t direction : {1, -1}) {
        StreamDetector detector;
        std::set<std::int64_t> there;
        unsigned faults = 0;
        bool established = false;
        for (std::int64_t i = 0; i < 4096 && !established; ++i) {
            const auto page = base + 2048 + direction * i;
            if (there.contains(page)) continue;
            ++faults;
            const auto ahead = detector.fault(page, together);
            EXPECT_TRUE(ahead.count == 0 || ahead.stride == direction) << ahead.stride;
            established = ahead.established;
            for (unsigned j = 1; j <= ahead.count; ++j)
                there.insert(page + direction * j);
            const auto first = page & ~std::int64_t{together - 1};
            for (std::int64_t beside = 0; ahead.count == 0 && beside < together; ++beside)
                if (beside != (first / together * 7) % together)
                    there.insert(first + beside);  // one left out
        }
        EXPECT_TRUE(established);
        EXPECT_LE(faults, 10U);
    }
}

TEST(StreamDetector, randomFaultsBringNothingAlong) {
    StreamDetector detector;
    std::mt19937_64 random(1);
    unsigned along = 0;
    for (int i = 0; i < 100000; ++i)
        along += detector.fault(base + static_cast<std::int64_t>(random() % 262144)).count;
    EXPECT_LT(along, 2000U) << "2 % of the faults' own pages";
}

TEST(StreamDetector, severalStreamsAtOnceAreToldApart) {
    StreamDetector detector;
    unsigned faults = 0;
    std::array<std::int64_t, 8> there{};
    for (unsigned i = 0; i < 1000; ++i) {
        for (unsigned s = 0; s < there.size(); ++s) {
            const auto page = base + static_cast<std::int64_t>(s) * 100000 + i;
            if (page < there[s]) continue;
            ++faults;
            there[s] = page + 1 + static_cast<std::int64_t>(detector.fault(page).count);
        }
    }
    EXPECT_LE(faults, there.size() * 15);
}

TEST(StreamDetector, pagesThatAreThereAlreadyDoNotEndAStream) {
    StreamDetector detector;
    readThrough(detector, base, 1, 100);
    const auto first = detector.fault(base + 100 + 40);  // 32 more were there
    EXPECT_GE(first.count, 64U);
    EXPECT_EQ(detector.fault(base + 100000).count, 0U);
}

TEST(StreamDetector, aStreamIsEstablishedAtTheLargestWindowAndCanBeBroughtFurther) {
    StreamDetector detector;
    EXPECT_EQ(readThrough(detector, base, 1, 2 + 5 + 9 + 17 + 33 + 65), 7U);
    const auto page = base + 2 + 5 + 9 + 17 + 33 + 65;
    const auto ahead = detector.fault(page);
    EXPECT_TRUE(ahead.established);
    EXPECT_EQ(ahead.count, StreamDetector::maxWindow);
    detector.reached(page + 512);
    EXPECT_EQ(detector.fault(page + 200).count, 0U) << "it is not expected there any more";
    EXPECT_EQ(detector.fault(page + 512).count, StreamDetector::maxWindow);
}

}  // namespace
}  // namespace thermocline::memory
