// SPDX-License-Identifier: Apache-2.0
#include "db/policy_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/testing/temporary_directory.h"

namespace thermocline::db {
namespace {

class PolicyStoreTest : public ::testing::Test {
  protected:
    thermocline::testing::TemporaryDirectory directory_;
    Database database_ = Database::open(directory_.path() / "thermocline.db").value();
    std::chrono::sys_seconds now_{std::chrono::seconds(1'700'000'000)};
    PolicyStore policies_{database_, [this] { return now_; }};
};

TEST_F(PolicyStoreTest, leavesUnknownDomainsAlone) {
    EXPECT_EQ(policies_.load("aaaa").value(), (Policy{false, 0}));
    EXPECT_FALSE(policies_.lastName("aaaa").value().has_value());
    EXPECT_TRUE(policies_.managed().value().empty());
}

TEST_F(PolicyStoreTest, keepsTheLastWordPerDomain) {
    ASSERT_TRUE(policies_.save("aaaa", "web", {true, 512 << 20}));
    ASSERT_TRUE(policies_.save("bbbb", "db", {true, 0}));
    now_ += std::chrono::seconds(5);
    ASSERT_TRUE(policies_.save("aaaa", "web-renamed", {false, UINT64_MAX}));
    EXPECT_EQ(policies_.load("aaaa").value(), (Policy{false, UINT64_MAX}));
    EXPECT_EQ(policies_.lastName("aaaa").value(), "web-renamed");
    EXPECT_THAT(policies_.managed().value(), ::testing::ElementsAre("bbbb"));
    auto query = database_.prepare("SELECT updated_at FROM domain ORDER BY uuid");
    ASSERT_TRUE(query && query->step().value());
    EXPECT_EQ(query->column(0), 1'700'000'005);
}

TEST_F(PolicyStoreTest, keepsTheProactivePolicyToTheLastBit) {
    const Policy policy{true, 7, {0.1 + 0.2, UINT64_MAX}};
    ASSERT_TRUE(policies_.save("aaaa", "web", policy));
    EXPECT_EQ(policies_.load("aaaa").value(), policy);
    ASSERT_TRUE(policies_.save("aaaa", "web", {true, 7}));
    EXPECT_EQ(policies_.load("aaaa").value(), (Policy{true, 7, {0, 0}}));
}

TEST_F(PolicyStoreTest, remembersWhatARuleSaid) {
    EXPECT_FALSE(policies_.known("aaaa").value());
    ASSERT_TRUE(policies_.save("aaaa", "web", {true, 7, {}, false, true}));
    EXPECT_TRUE(policies_.known("aaaa").value());
    EXPECT_EQ(policies_.load("aaaa").value(), (Policy{true, 7, {}, false, true}));
    ASSERT_TRUE(policies_.save("aaaa", "web", {true, 7}));
    EXPECT_FALSE(policies_.load("aaaa").value().byRule);
}

TEST_F(PolicyStoreTest, remembersThatMetadataHasToBeWritten) {
    ASSERT_TRUE(policies_.save("aaaa", "web", {true, 7, {}, true}));
    EXPECT_EQ(policies_.load("aaaa").value(), (Policy{true, 7, {}, true}));
    ASSERT_TRUE(policies_.save("aaaa", "web", {true, 7}));
    EXPECT_FALSE(policies_.load("aaaa").value().metadataDue);
}

TEST_F(PolicyStoreTest, remembersWhenAPausedDomainIsFrozen) {
    ASSERT_TRUE(policies_.save("aaaa", "web", {true, 7, {}, false, false, 100, 300}));
    EXPECT_EQ(policies_.load("aaaa").value(), (Policy{true, 7, {}, false, false, 100, 300}));
}

TEST_F(PolicyStoreTest, remembersThePriorityWithinItsRange) {
    EXPECT_EQ(policies_.load("aaaa").value().priority, 100U);
    ASSERT_TRUE(policies_.save("aaaa", "web", {true, 7, {}, false, false, 250}));
    EXPECT_EQ(policies_.load("aaaa").value().priority, 250U);
    EXPECT_FALSE(policies_.save("aaaa", "web", {true, 7, {}, false, false, 0}));
    EXPECT_FALSE(policies_.save("aaaa", "web", {true, 7, {}, false, false, 1001}));
}

TEST_F(PolicyStoreTest, takesNamesAsTheyAre) {
    const std::string name = "we'ird; DROP TABLE domain; -- \xc3\xa9";
    ASSERT_TRUE(policies_.save("aaaa", name, {true, 1}));
    EXPECT_EQ(policies_.lastName("aaaa").value(), name);
}

}  // namespace
}  // namespace thermocline::db
