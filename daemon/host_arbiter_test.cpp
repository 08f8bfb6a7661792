// SPDX-License-Identifier: Apache-2.0
#include "daemon/host_arbiter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/testing/temporary_directory.h"

namespace thermocline {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t gib = 1 << 30;

class HostArbiterTest : public ::testing::Test {
  protected:
    HostArbiterTest() { vms_ = {vm("aaaa", 2 * gib), vm("bbbb", 2 * gib)}; }

    static HostArbiter::Vm vm(const std::string& uuid, std::uint64_t used) {
        HostArbiter::Vm made;
        made.uuid = uuid;
        made.status.pid = 7;
        made.status.memoryBytes = 4 * gib;
        made.status.residentBytes = made.status.usedBytes = used;
        return made;
    }
    HostArbiter::Outside outside() {
        return {.vms = [this] { return vms_; },
                .allot =
                    [this](const std::string& uuid, std::uint64_t bytes, const std::string& /*why*/) {
                        for (auto& vm : vms_)
                            if (vm.uuid == uuid) vm.allotment = bytes;
                    },
                .changed = [this] { ++changes_; },
                .memory = [this] { return Result<HostMemory>(memory_); },
                .now = [this] { return now_; }};
    }
    std::unique_ptr<HostArbiter> make(const db::HostBudget& configured = {}) {
        return std::make_unique<HostArbiter>(loop_, database_, configured, outside());
    }
    std::vector<std::uint64_t> allotments() const { return {vms_.at(0).allotment, vms_.at(1).allotment}; }
    std::vector<db::Decision> decisions() {
        return db::DecisionStore(database_).query({}, db::systemNow() + 10s).value();
    }

    thermocline::testing::TemporaryDirectory directory_;
    EventLoop loop_;
    db::Database database_ = db::Database::open(directory_.path() / "thermocline.db").value();
    HostMemory memory_{16 * gib, 8 * gib};
    HostArbiter::Time now_ = HostArbiter::Time{} + 1h;
    std::vector<HostArbiter::Vm> vms_;
    int changes_ = 0;
};

TEST_F(HostArbiterTest, bindsNobodyWithoutABudget) {
    const auto arbiter = make();
    arbiter->tick();
    arbiter->pressed();
    EXPECT_THAT(allotments(), ElementsAre(0, 0));
    EXPECT_EQ(arbiter->note(), "");
    EXPECT_TRUE(decisions().empty());
    const auto plan = arbiter->plan({});
    ASSERT_FALSE(plan);
    EXPECT_THAT(plan.error().message, HasSubstr("thermoctl plan --budget"));
}

TEST_F(HostArbiterTest, splitsABudgetAndExplainsIt) {
    const auto arbiter = make();
    vms_[1].priority = 300;
    vms_[1].minResident = gib;
    // 3 GiB less floors of 256 MiB and 1 GiB: 448 and 1344 MiB, of which the second needs 1024.
    const auto plan = arbiter->plan({3 * gib, 0, 0});
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->vms[0].bytes, gib);
    EXPECT_EQ(plan->vms[1].bytes, 2 * gib);
    EXPECT_EQ(plan->inputs[1].floor, gib);
    EXPECT_THAT(allotments(), ElementsAre(0, 0));  // it was only a plan

    ASSERT_TRUE(arbiter->setBudget(db::HostBudget{3 * gib, 0, 0}));
    EXPECT_THAT(allotments(), ElementsAre(gib, 2 * gib));
    EXPECT_THAT(arbiter->note(), HasSubstr("the budget is 3.0 GiB"));
    EXPECT_GT(changes_, 0);
    const auto made = decisions();
    ASSERT_EQ(made.size(), 3U);
    EXPECT_EQ(made[0].uuid, "");
    EXPECT_THAT(made[0].reason, HasSubstr("budget is 3GiB now"));
    EXPECT_EQ(made[1].uuid, "aaaa");
    EXPECT_EQ(made[1].before, 0U);
    EXPECT_EQ(made[1].after, gib);
    EXPECT_THAT(made[1].reason, HasSubstr("priority 100"));
    arbiter->tick();  // nothing has changed
    EXPECT_EQ(decisions().size(), 3U);
}

TEST_F(HostArbiterTest, movesMemoryToWhoNeedsIt) {
    const auto arbiter = make({3 * gib, 0, 0});
    arbiter->tick();
    EXPECT_THAT(allotments(), ElementsAre(1536 * mib, 1536 * mib));
    // The first one turns out to use little; the second waits for pages.
    vms_[0].status.residentBytes = vms_[0].status.usedBytes = 300 * mib;
    vms_[1].status.limitBytes = vms_[1].status.usedBytes = 1536 * mib;
    vms_[1].status.stallRatio = 0.5;
    for (int i = 0; i < 120; ++i) {
        now_ += 1s;
        vms_[1].status.usedBytes = vms_[1].status.residentBytes = vms_[1].allotment;
        arbiter->tick();
    }
    EXPECT_GE(vms_[1].allotment, 2560 * mib);
    EXPECT_LE(vms_[0].allotment + vms_[1].allotment, 3 * gib);
}

TEST_F(HostArbiterTest, pressureIsAnsweredAtOnce) {
    const auto arbiter = make({4 * gib, 0, 0});
    arbiter->tick();
    EXPECT_THAT(allotments(), ElementsAre(2 * gib, 2 * gib));
    arbiter->pressed();                                              // no time passes
    EXPECT_THAT(allotments(), ElementsAre(1984 * mib, 1984 * mib));  // an eighth of a GiB less
    EXPECT_THAT(arbiter->note(), HasSubstr("short of memory"));
    EXPECT_THAT(decisions().at(2).reason, HasSubstr("(PSI)"));
    now_ += 100s;
    arbiter->tick();
    EXPECT_THAT(allotments(), ElementsAre(2 * gib, 2 * gib));
}

TEST_F(HostArbiterTest, theBudgetThatWasSetIsRememberedUntilItIsForgotten) {
    {
        const auto arbiter = make({0, 0.5, 0});
        EXPECT_EQ(arbiter->budget(), (db::HostBudget{0, 0.5, 0}));
        ASSERT_TRUE(arbiter->setBudget(db::HostBudget{}));
        EXPECT_FALSE(arbiter->budget().on());
    }
    const auto arbiter = make({0, 0.5, 0});
    EXPECT_FALSE(arbiter->budget().on());
    ASSERT_TRUE(arbiter->setBudget(std::nullopt));
    EXPECT_EQ(arbiter->budget(), (db::HostBudget{0, 0.5, 0}));
}

TEST_F(HostArbiterTest, withoutItsBudgetNobodyIsBoundAnyMore) {
    const auto arbiter = make({3 * gib, 0, 0});
    arbiter->tick();
    ASSERT_TRUE(arbiter->setBudget(db::HostBudget{}));
    EXPECT_THAT(allotments(), ElementsAre(0, 0));
    EXPECT_EQ(arbiter->note(), "");
    EXPECT_THAT(decisions().back().reason, HasSubstr("no budget any more"));
}

TEST_F(HostArbiterTest, aDatabaseThatFailsCostsExplanationsOnly) {
    const auto arbiter = make({3 * gib, 0, 0});
    ASSERT_TRUE(database_.execute("DROP TABLE decision"));
    arbiter->tick();
    EXPECT_THAT(allotments(), ElementsAre(1536 * mib, 1536 * mib));
}

}  // namespace
}  // namespace thermocline
