// SPDX-License-Identifier: Apache-2.0
#include "bench/subject/access_pattern.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "bench/subject/access_batch.h"

namespace thermocline::bench {
namespace {

constexpr std::uint64_t pages = 1000;

PatternOptions options(const std::string& workload) {
    PatternOptions made;
    made.workload = workload;
    made.pages = pages;
    made.hotPages = 100;
    return made;
}

std::vector<std::uint64_t> take(AccessPattern& pattern, std::size_t count, double elapsed = 0) {
    std::vector<std::uint32_t> entries(count);
    pattern.fill(entries, elapsed);
    std::vector<std::uint64_t> taken;
    for (const auto entry : entries)
        taken.push_back(entry & ~writeFlag);
    return taken;
}

TEST(AccessPattern, sequentialGoesRoundInOrder) {
    const auto taken = take(*makePattern(options("sequential")), pages + 2);
    for (std::uint64_t i = 0; i < taken.size(); ++i)
        ASSERT_EQ(taken[i], i % pages);
}

TEST(AccessPattern, stridedVisitsEveryPageOncePerTurn) {
    auto strided = options("strided");
    strided.pages = 1003;  // not a multiple of the stride
    const auto pattern = makePattern(strided);
    for (int turn = 0; turn < 2; ++turn) {
        const auto taken = take(*pattern, strided.pages);
        EXPECT_EQ(taken[1] - taken[0], strided.stride);
        EXPECT_EQ(std::set(taken.begin(), taken.end()).size(), strided.pages);
    }
}

TEST(AccessPattern, zipfFollowsItsDistribution) {
    constexpr std::size_t count = 400000;
    std::vector<double> times(pages);
    for (const auto page : take(*makePattern(options("zipf")), count))
        ++times[page];
    std::sort(times.rbegin(), times.rend());
    double sum = 0;
    for (std::uint64_t rank = 1; rank <= pages; ++rank)
        sum += std::pow(static_cast<double>(rank), -0.99);
    for (const std::uint64_t rank : {1, 2, 10, 100})
        EXPECT_NEAR(times[rank - 1] / count, std::pow(static_cast<double>(rank), -0.99) / sum,
                    0.1 * times[rank - 1] / count)
            << rank;
}

TEST(AccessPattern, zipfScattersItsHotPages) {
    std::vector<std::uint64_t> times(pages);
    for (const auto page : take(*makePattern(options("zipf")), 100000))
        ++times[page];
    const auto half = std::accumulate(times.begin(), times.begin() + pages / 2, std::uint64_t{0});
    EXPECT_GT(half, 20000U);
    EXPECT_LT(half, 80000U);
}

TEST(AccessPattern, hotColdStaysInItsHotSet) {
    const auto taken = take(*makePattern(options("hot-cold")), 10000);
    EXPECT_LT(*std::max_element(taken.begin(), taken.end()), 100U);
    EXPECT_EQ(std::set(taken.begin(), taken.end()).size(), 100U);
}

TEST(AccessPattern, phasesMoveAfterTheirPeriod) {
    auto phases = options("phases");
    phases.periodSeconds = 2;
    const auto pattern = makePattern(phases);
    const auto first = take(*pattern, 1000, 0);
    EXPECT_EQ(*std::min_element(first.begin(), first.end()) / 100,
              *std::max_element(first.begin(), first.end()) / 100);
    const auto same = take(*pattern, 1000, 1.9);
    EXPECT_EQ(std::set(first.begin(), first.end()), std::set(same.begin(), same.end()));
    const auto moved = take(*pattern, 1000, 2.1);
    EXPECT_GT(*std::min_element(moved.begin(), moved.end()), *std::max_element(first.begin(), first.end()));
    for (int period = 2; period < 100; ++period) {
        const auto later = take(*pattern, 100, 2.1 * period);
        ASSERT_LT(*std::max_element(later.begin(), later.end()), pages);
    }
}

TEST(AccessPattern, writesTheWantedShare) {
    for (const unsigned percent : {0U, 20U, 100U}) {
        auto written = options("random");
        written.writePercent = percent;
        std::vector<std::uint32_t> entries(100000);
        makePattern(written)->fill(entries, 0);
        const auto writes = std::count_if(entries.begin(), entries.end(),
                                          [](auto entry) { return (entry & writeFlag) != 0; });
        EXPECT_NEAR(static_cast<double>(writes), 1000.0 * percent, 500.0) << percent;
    }
}

TEST(AccessPattern, refusesWhatDoesNotFit) {
    EXPECT_EQ(makePattern(options("bogus")), nullptr);
    auto tooHot = options("hot-cold");
    tooHot.hotPages = pages + 1;
    EXPECT_EQ(makePattern(tooHot), nullptr);
    auto still = options("strided");
    still.stride = 0;
    EXPECT_EQ(makePattern(still), nullptr);
}

}  // namespace
}  // namespace thermocline::bench
