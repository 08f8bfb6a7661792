// SPDX-License-Identifier: Apache-2.0

// Policies on a real process's memory: what they change, and what they cannot.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memory/testing/policy_directory.h"
#include "memory/testing/subject_process.h"
#include "memory/testing/vm_fixture.h"

namespace thermocline::memory {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;
using Options = std::vector<std::pair<std::string, std::string>>;

class VmPolicyTest : public testing::VmFixture, public ::testing::WithParamInterface<bool> {
  protected:
    void attach(SubjectProcess& subject, const std::string& policy = "", Options options = {}) {
        auto attaching = optionsFor(subject);
        if (!policy.empty())
            attaching.policy = {policies_.file(policy), policies_.path(), std::move(options), 500ms};
        VmFixture::attach(std::move(attaching));
    }
    void attachScripted(SubjectProcess& subject, const std::string& does, int first = 0, int count = 1) {
        attach(subject, "scripted",
               {{"does", does}, {"first", std::to_string(first)}, {"count", std::to_string(count)}});
    }
    bool awaitPolicy(const std::string& name) {
        return eventually([&](const Status& status) { return status.policy == name; });
    }
    /// Pages that are not in guest RAM, of each quarter of it.
    std::vector<std::uint64_t> taken() {
        std::vector<std::uint64_t> pages;
        for (const auto& piece : vm_->heat(4).pieces)
            pages.push_back(piece.staged + piece.cold);
        return pages;
    }
    void detach(SubjectProcess& subject) {
        expectDetached();
        EXPECT_EQ(subject.command("verify"), "ok 16384");
    }

    testing::PolicyDirectory policies_;
};

TEST_P(VmPolicyTest, theClockTakesTheFirstQuarterFirst) {
    SubjectProcess subject(64 * mib, GetParam());
    ASSERT_EQ(subject.command("fill 1 plain"), "ok");
    attach(subject);
    EXPECT_EQ(vm_->status().policy, "clock");
    ASSERT_TRUE(vm_->setLimit(56 * mib));
    ASSERT_TRUE(awaitLimitMet());
    EXPECT_GT(taken()[0], 2000U);
    EXPECT_EQ(taken()[3], 0U);
    detach(subject);
}

TEST_P(VmPolicyTest, theExampleTakesWhatWasNeverSeenFromTheEndAndKeepsWhatWasUsed) {
    SubjectProcess subject(64 * mib, GetParam());
    ASSERT_EQ(subject.command("fill 2 plain"), "ok");
    attach(subject, "window", {{"window", "600"}});
    ASSERT_TRUE(awaitPolicy("window")) << vm_->status().policyNote;
    ASSERT_TRUE(vm_->setLimit(60 * mib));
    ASSERT_TRUE(awaitLimitMet());
    EXPECT_EQ(taken()[0], 0U);
    EXPECT_GT(taken()[3], 2000U);
    // The last quarter is used now: that it was taken was wrong, and the third goes instead.
    EXPECT_TRUE(eventually([&](const Status&) {
        EXPECT_TRUE(subject.command("touch 12288 4096 1").starts_with("ok"));
        return awaitLimitMet() && taken()[3] == 0;
    }));
    EXPECT_GT(taken()[2], 2000U);
    EXPECT_LE(taken()[0], taken()[1]);
    EXPECT_EQ(vm_->status().policyNote, "");
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    detach(subject);
}

TEST_P(VmPolicyTest, whatAPolicyNamesGoesBeforeAnythingElse) {
    for (const std::string does : {"stage", "evict"}) {
        SubjectProcess subject(64 * mib, GetParam());
        ASSERT_EQ(subject.command("fill 3 plain"), "ok");
        attachScripted(subject, does, 16, 16);
        ASSERT_TRUE(awaitPolicy("scripted")) << vm_->status().policyNote;
        ASSERT_TRUE(vm_->setLimit(58 * mib));
        ASSERT_TRUE(awaitLimitMet());
        EXPECT_GT(taken()[2], 2000U) << does;
        EXPECT_LE(taken()[3], taken()[2]) << does;
        EXPECT_EQ(taken()[0] + taken()[1], 0U) << does;
        detach(subject);
    }
}

TEST_P(VmPolicyTest, whatAPolicyKeepsGoesLast) {
    SubjectProcess subject(64 * mib, GetParam());
    ASSERT_EQ(subject.command("fill 4 plain"), "ok");
    attachScripted(subject, "keep", 0, 8);
    ASSERT_TRUE(awaitPolicy("scripted")) << vm_->status().policyNote;
    ASSERT_TRUE(vm_->setLimit(48 * mib));
    ASSERT_TRUE(awaitLimitMet());
    EXPECT_EQ(taken()[0], 0U);
    EXPECT_GT(taken()[1], 2000U);
    ASSERT_TRUE(vm_->setLimit(16 * mib));  // cannot be met without
    EXPECT_TRUE(eventually([&](const Status&) { return taken()[0] > 0; }));
    detach(subject);
}

TEST_P(VmPolicyTest, whatAPolicyWantsBackComesBack) {
    SubjectProcess subject(64 * mib, GetParam());
    ASSERT_EQ(subject.command("fill 5 plain"), "ok");
    attachScripted(subject, "bring-back", 0, 4);
    ASSERT_TRUE(awaitPolicy("scripted")) << vm_->status().policyNote;
    ASSERT_TRUE(vm_->setLimit(40 * mib));
    ASSERT_TRUE(awaitLimitMet());
    ASSERT_TRUE(vm_->setLimit(60 * mib));
    EXPECT_TRUE(eventually([&](const Status&) {
        const auto first = vm_->heat(8).pieces[0];  // four blocks
        return first.staged + first.cold == 0;
    }));
    EXPECT_EQ(vm_->status().faults, 0U) << "nobody has touched anything";
    detach(subject);
}

TEST_P(VmPolicyTest, withoutNeedAPolicySaysWhatIsTakenAndTheStallSaysHowMuch) {
    SubjectProcess subject(64 * mib, GetParam());
    ASSERT_EQ(subject.command("fill 6 plain"), "ok");
    attachScripted(subject, "stage", 24, 8);
    ASSERT_TRUE(awaitPolicy("scripted")) << vm_->status().policyNote;
    ASSERT_TRUE(vm_->setProactive(ProactivePolicy::Settings{.maxStall = 0.05, .minResidentBytes = 0}));
    EXPECT_TRUE(eventually([&](const Status&) { return taken()[3] == 4096; }));
    EXPECT_EQ(taken()[0] + taken()[1] + taken()[2], 0U);
    detach(subject);
}

struct Misbehaviour {
    const char* policy;
    const char* does;
    const char* note;
};

class MisbehavingPolicyTest : public VmPolicyTest {};

TEST_P(MisbehavingPolicyTest, isSwitchedOffAndHarmsNothing) {
    const std::vector<Misbehaviour> ways{
        {"no_entry", "", "does not export thermocline_policy_entry"},
        {"wrong_version", "", "version 2 of the policy interface"},
        {"missing", "", "No such file"},
        {"scripted", "error-in-create", "create() returned 7 (cannot work here)"},
        {"scripted", "throw-in-tick", "tick() threw an exception: no wish to work"},
        {"scripted", "error-in-tick", "tick() returned -1"},
        {"scripted", "ask-nonsense", "for what cannot be"},
        {"scripted", "end-thread-in-tick", "ended the thread"},
        {"scripted", "block-in-tick", "tick() has not returned after 500 ms"},
        {"scripted", "throw-in-fault", "fault() threw an exception: no wish to listen"},
    };
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe(pipe.data()), 0);
    for (const auto& way : ways) {
        SCOPED_TRACE(way.policy + std::string(" ") + way.does);
        SubjectProcess subject(64 * mib, GetParam());
        ASSERT_EQ(subject.command("fill 7 mixed"), "ok");
        attach(subject, way.policy, {{"does", way.does}, {"pipe", std::to_string(pipe[0])}});
        ASSERT_TRUE(vm_->setLimit(48 * mib));
        ASSERT_TRUE(awaitLimitMet()) << vm_->status().limitNote;
        EXPECT_EQ(subject.command("verify"), "ok 16384");
        EXPECT_TRUE(eventually([&](const Status& status) { return !status.policyNote.empty(); }));
        EXPECT_THAT(vm_->status().policyNote, HasSubstr(way.note));
        EXPECT_EQ(vm_->status().policy, "clock");
        ASSERT_TRUE(vm_->setLimit(40 * mib));
        ASSERT_TRUE(awaitLimitMet()) << vm_->status().limitNote;
        EXPECT_EQ(subject.command("verify"), "ok 16384");
        detach(subject);
    }
    // Ends the thread that was left behind; nobody knows when it has read from the other end, so that is
    // never closed.
    ::close(pipe[1]);
}

TEST_P(MisbehavingPolicyTest, whoeverThrowsMemoryOutTheGuestUsesCostsTimeAndNoByte) {
    SubjectProcess subject(64 * mib, GetParam());
    ASSERT_EQ(subject.command("fill 8 mixed"), "ok");
    attachScripted(subject, "evict", 0, 32);  // everything, a hundred times a second
    ASSERT_TRUE(awaitPolicy("scripted")) << vm_->status().policyNote;
    ASSERT_TRUE(vm_->setLimit(48 * mib));
    ASSERT_TRUE(vm_->setProactive(ProactivePolicy::Settings{.maxStall = 0.05, .minResidentBytes = 0}));
    ASSERT_EQ(subject.command("hammer 2"), "ok");
    ASSERT_EQ(subject.command("await " + std::to_string(vm_->status().faults + 20000)), "ok");
    EXPECT_TRUE(subject.command("stop").starts_with("ok "));
    EXPECT_EQ(vm_->status().policy, "scripted") << vm_->status().policyNote;
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    detach(subject);
}

const auto name = [](const auto& parameter) { return parameter.param ? "Huge" : "Small"; };
INSTANTIATE_TEST_SUITE_P(Pages, VmPolicyTest, ::testing::Bool(), name);
INSTANTIATE_TEST_SUITE_P(Pages, MisbehavingPolicyTest, ::testing::Bool(), name);

}  // namespace
}  // namespace thermocline::memory
