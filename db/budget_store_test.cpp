// SPDX-License-Identifier: Apache-2.0
#include "db/budget_store.h"

#include <gtest/gtest.h>

#include "db/testing/temporary_directory.h"

namespace thermocline::db {
namespace {

TEST(BudgetStore, keepsTheLastOneAlsoWhereItIsOff) {
    const thermocline::testing::TemporaryDirectory directory;
    {
        auto database = Database::open(directory.path() / "thermocline.db").value();
        BudgetStore store(database);
        EXPECT_EQ(store.load().value(), std::nullopt);
        ASSERT_TRUE(store.save(HostBudget{5, 0, 7}));
        ASSERT_TRUE(store.save(HostBudget{0, 0.75, UINT64_MAX}));
        EXPECT_EQ(store.load().value(), (HostBudget{0, 0.75, UINT64_MAX}));
        ASSERT_TRUE(store.save(HostBudget{}));
    }
    auto database = Database::open(directory.path() / "thermocline.db").value();
    BudgetStore store(database);
    EXPECT_EQ(store.load().value(), HostBudget{});  // off is not the same as not told
    ASSERT_TRUE(store.save(std::nullopt));
    EXPECT_EQ(store.load().value(), std::nullopt);
}

}  // namespace
}  // namespace thermocline::db
