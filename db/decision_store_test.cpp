// SPDX-License-Identifier: Apache-2.0
#include "db/decision_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/testing/temporary_directory.h"

namespace thermocline::db {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

class DecisionStoreTest : public ::testing::Test {
  protected:
    std::vector<std::string> reasons(std::chrono::sys_seconds since, std::chrono::sys_seconds until) {
        std::vector<std::string> found;
        const auto decisions = store_.query(since, until).value();
        for (const auto& decision : decisions)
            found.push_back(decision.reason);
        return found;
    }
    thermocline::testing::TemporaryDirectory directory_;
    Database database_ = Database::open(directory_.path() / "thermocline.db").value();
    std::chrono::sys_seconds now_{1'700'000'000s};
    DecisionStore store_{database_, [this] { return now_; }};
};

TEST_F(DecisionStoreTest, givesBackWhatWasAddedInItsOrder) {
    ASSERT_TRUE(store_.add({{{}, "aaaa", 0, 5, "first"}, {{}, "", 7, 0, "second"}}));
    now_ += 10s;
    ASSERT_TRUE(store_.add({{{}, "bbbb", 1, 2, "third"}}));
    const auto all = store_.query({}, now_ + 1s).value();
    ASSERT_EQ(all.size(), 3U);
    EXPECT_EQ(all[0], (Decision{now_ - 10s, "aaaa", 0, 5, "first"}));
    EXPECT_EQ(all[1], (Decision{now_ - 10s, "", 7, 0, "second"}));
    EXPECT_THAT(reasons(now_ - 10s, now_), ElementsAre("first", "second"));
    EXPECT_THAT(reasons(now_, now_ + 1s), ElementsAre("third"));
    ASSERT_TRUE(store_.add({}));
}

TEST_F(DecisionStoreTest, forgetsAfter30Days) {
    ASSERT_TRUE(store_.add({{{}, "aaaa", 0, 5, "old"}}));
    now_ += 30 * 24h;
    ASSERT_TRUE(store_.add({{{}, "aaaa", 0, 5, "young"}}));
    EXPECT_THAT(reasons({}, now_ + 1s), ElementsAre("old", "young"));
    now_ += 1s;
    ASSERT_TRUE(store_.add({{{}, "aaaa", 0, 5, "younger"}}));
    EXPECT_THAT(reasons({}, now_ + 1s), ElementsAre("young", "younger"));
}

TEST_F(DecisionStoreTest, keepsTheNewestHundredThousand) {
    ASSERT_TRUE(store_.add(std::vector<Decision>(100'001, Decision{{}, "aaaa", 0, 0, "many"})));
    EXPECT_EQ(store_.query({}, now_ + 1s).value().size(), 10'000U);  // the newest of them
    auto count = database_.prepare("SELECT count(*) FROM decision");
    ASSERT_TRUE(count && count->step().value());
    EXPECT_EQ(count->column(0), 100'000);
}

}  // namespace
}  // namespace thermocline::db
