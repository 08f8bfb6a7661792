// SPDX-License-Identifier: Apache-2.0
#include "daemon/host_budget.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(HostBudget, isASizeAShareOrOff) {
    EXPECT_EQ(parseHostBudget("off", 5).value(), db::HostBudget{});
    EXPECT_EQ(parseHostBudget("75%", 5).value(), (db::HostBudget{0, 0.75, 5}));
    EXPECT_EQ(parseHostBudget("0.5", 0).value(), (db::HostBudget{0, 0.5, 0}));
    EXPECT_EQ(parseHostBudget("100%", 0).value(), (db::HostBudget{0, 1, 0}));
    EXPECT_EQ(parseHostBudget("24GiB", 7).value(), (db::HostBudget{24ULL << 30, 0, 7}));
    EXPECT_EQ(parseHostBudget("67108864", 0).value(), (db::HostBudget{64ULL << 20, 0, 0}));
}

TEST(HostBudget, refusesTheRest) {
    for (const char* text : {"", "none", "0", "0%", "101%", "63MiB", "1.5", "-5%", "75 percent", "0.001"}) {
        const auto parsed = parseHostBudget(text, 0);
        ASSERT_FALSE(parsed) << text;
        EXPECT_EQ(parsed.error().code, ErrorCode::invalidArgument);
        EXPECT_NE(parsed.error().message.find("from 1% to 100%"), std::string::npos);
    }
}

TEST(HostBudget, isWrittenSoThatItReadsBack) {
    for (const char* text : {"off", "75%", "12.5%", "24GiB", "100MiB", "67108865"}) {
        const auto budget = parseHostBudget(text, 3).value();
        EXPECT_EQ(formatHostBudget(budget), text);
        EXPECT_EQ(parseHostBudget(formatHostBudget(budget), budget.keepFree).value(), budget);
    }
}

}  // namespace
}  // namespace thermocline
