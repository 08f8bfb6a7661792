// SPDX-License-Identifier: Apache-2.0
#include "bench/subject/latency_histogram.h"

#include <gtest/gtest.h>

namespace thermocline::bench {
namespace {

TEST(LatencyHistogram, quantilesAreExactToSixPercent) {
    LatencyHistogram histogram;
    for (std::uint32_t value = 1; value <= 100000; ++value)
        histogram.add(value);
    for (const double share : {0.001, 0.5, 0.99, 0.999})
        EXPECT_NEAR(histogram.quantile(share), share * 100000, share * 6250) << share;
    EXPECT_EQ(histogram.count(), 100000U);
    EXPECT_EQ(histogram.longest(), 100000U);
}

TEST(LatencyHistogram, takesEveryValue) {
    LatencyHistogram histogram;
    histogram.add(0);
    histogram.add(UINT32_MAX);
    EXPECT_EQ(histogram.quantile(0.5), 0);
    EXPECT_NEAR(histogram.quantile(1), 4294967295.0, 0.07 * 4294967295.0);
}

TEST(LatencyHistogram, emptyHasNoQuantile) {
    EXPECT_EQ(LatencyHistogram().quantile(0.5), 0);
}

}  // namespace
}  // namespace thermocline::bench
