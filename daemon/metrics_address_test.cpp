// SPDX-License-Identifier: Apache-2.0
#include "daemon/metrics_address.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(MetricsAddress, isOfTheLoopbackUnlessItSaysOtherwise) {
    EXPECT_EQ(parseMetricsAddress("9927").value(), (MetricsAddress{"127.0.0.1", 9927}));
    EXPECT_EQ(parseMetricsAddress("192.0.2.7:80").value(), (MetricsAddress{"192.0.2.7", 80}));
    EXPECT_EQ(parseMetricsAddress("[::1]:9927").value(), (MetricsAddress{"::1", 9927}));
    EXPECT_EQ(parseMetricsAddress("[::1]:9927")->text(), "[::1]:9927");
    EXPECT_TRUE(parseMetricsAddress("9927")->loopback());
    EXPECT_TRUE(parseMetricsAddress("[::1]:9927")->loopback());
    EXPECT_FALSE(parseMetricsAddress("0.0.0.0:9927")->loopback());
}

TEST(MetricsAddress, refusesTheRest) {
    for (const char* text : {"", "0", "65536", "-1", "host:9927", "127.0.0.1", "127.0.0.1:", ":9927",
                             "::1:9927", "80x", "1.2.3.4:5,6.7.8.9:10", "[127.0.0.1]:80"}) {
        const auto parsed = parseMetricsAddress(text);
        ASSERT_FALSE(parsed) << text;
        EXPECT_EQ(parsed.error().code, ErrorCode::invalidArgument);
    }
}

}  // namespace
}  // namespace thermocline
