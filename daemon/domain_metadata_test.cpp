// SPDX-License-Identifier: Apache-2.0
// The settings in a domain's metadata: who wins when, and that our own words are not taken for somebody's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/overcommit_xml.h"
#include "daemon/testing/domain_test.h"
#include "daemon/testing/fake_manager.h"

namespace thermocline {
namespace {

using ::testing::HasSubstr;
using State = Domain::State;
using testing::DomainTest;
using testing::FakeManagerMood;
using testing::mib;
using testing::uuid;

/// A hypervisor whose metadata is the variable `stored_`; it answers writes when the test says so, or at
/// once.
class DomainMetadataTest : public DomainTest {
  protected:
    DomainMetadataTest() {
        environment_.setOvercommit = [this](const std::string& /*uuid*/, std::optional<std::string> element,
                                            std::function<void(Result<void>)> done) {
            ++writes_;
            if (refusal_)
                return loop_.post([done, error = *refusal_] { done(tl::unexpected<Error>(error)); });
            stored_ = std::move(element);
            loop_.post([this, done] {
                done({});
                domain_->metadataChanged(info());  // as libvirt does
            });
        };
    }
    [[nodiscard]] DomainInfo info(bool running = true) const {
        return {uuid, "vm", running, false, 512 * mib, stored_, {}, hardLimit_};
    }
    /// virsh metadata --set
    void someoneSets(std::optional<std::string> element) {
        stored_ = std::move(element);
        domain_->metadataChanged(info(domain_->running()));
    }
    bool until(const std::function<bool()>& done) { return loop_.runUntil(done, patience); }
    /// The limit that the manager was told, not the one that is remembered.
    bool limitBecomes(std::uint64_t bytes) {
        return until(
            [&] { return domain_->state() == State::attached && domain_->status().limitBytes == bytes; });
    }
    /// Everything that is on its way has arrived.
    void settle() {
        loop_.runUntil([] { return false; }, std::chrono::milliseconds(100));
    }

    std::optional<std::string> stored_;
    std::optional<Error> refusal_;
    int writes_ = 0;
    std::uint64_t hardLimit_ = 0;
};

TEST_F(DomainMetadataTest, anElementAttachesAndItsChangesAreFollowed) {
    makeDomain();
    someoneSets("<overcommit limit='256MiB'/>");
    ASSERT_TRUE(limitBecomes(256 * mib));
    EXPECT_EQ(saved(), (db::Policy{true, 256 * mib}));
    someoneSets("<overcommit limit='128MiB' max-stall='1%' min-resident='64MiB'/>");
    ASSERT_TRUE(limitBecomes(128 * mib));
    EXPECT_EQ(domain_->proactive(), (db::ProactivePolicy{0.01, 64 * mib}));
    someoneSets("<overcommit/>");
    ASSERT_TRUE(limitBecomes(0));
    ASSERT_TRUE(until([&] { return domain_->proactive().maxStall == 0; }));
    someoneSets(std::nullopt);
    ASSERT_TRUE(reaches(State::detached));
    EXPECT_FALSE(domain_->managed());
    settle();
    EXPECT_EQ(writes_, 0);  // what others say there is not ours to say again
    EXPECT_EQ(saved(), db::Policy{});
}

TEST_F(DomainMetadataTest, changesThatComeFasterThanTheyAreAppliedEndWithTheLast) {
    makeDomain();
    ASSERT_TRUE(attach());
    settle();
    for (int size = 100; size <= 200; ++size)
        someoneSets("<overcommit limit='" + std::to_string(size) + "MiB'/>");
    EXPECT_TRUE(limitBecomes(200 * mib));
}

TEST_F(DomainMetadataTest, requestsAreWrittenBackOnceAndDoNotComeBackAsNews) {
    makeDomain();
    ASSERT_TRUE(attach());
    ASSERT_TRUE(until([&] { return stored_ == "<overcommit/>"; }));
    ASSERT_TRUE(setLimit(256 * mib));
    ASSERT_TRUE(setProactive(0.01, 64 * mib));
    const std::string wanted = "<overcommit limit=\"256MiB\" max-stall=\"0.01\" min-resident=\"64MiB\"/>";
    ASSERT_TRUE(until([&] { return stored_ == wanted && !saved().metadataDue; }));
    const int before = writes_;
    settle();
    EXPECT_EQ(writes_, before);
    EXPECT_EQ(domain_->status().limitBytes, 256 * mib);
    ASSERT_TRUE(detach());
    ASSERT_TRUE(until([&] { return !stored_ && !saved().metadataDue; }));
    settle();
    EXPECT_EQ(domain_->state(), State::detached);
}

TEST_F(DomainMetadataTest, theEchoOfAWriteIsNoNewsHoweverLateItComes) {
    std::vector<std::function<void(Result<void>)>> pending;
    std::vector<std::optional<std::string>> elements;
    environment_.setOvercommit = [&](const std::string& /*uuid*/, std::optional<std::string> element,
                                     std::function<void(Result<void>)> done) {
        elements.push_back(std::move(element));
        pending.push_back(std::move(done));
    };
    makeDomain();
    ASSERT_TRUE(attach());
    ASSERT_EQ(pending.size(), 1U);
    ASSERT_TRUE(setLimit(256 * mib));
    ASSERT_EQ(pending.size(), 1U);  // one at a time
    // The first is done and heard of while the second is due.
    pending.at(0)({});
    stored_ = elements.at(0);
    domain_->metadataChanged(info());
    settle();
    EXPECT_EQ(domain_->status().limitBytes, 256 * mib);
    ASSERT_EQ(elements.size(), 2U);
    EXPECT_EQ(elements.at(1), "<overcommit limit=\"256MiB\"/>");
    // And even after the second failed.
    pending.at(1)(fail(ErrorCode::systemError, "no room"));
    domain_->metadataChanged(info());
    settle();
    EXPECT_EQ(domain_->status().limitBytes, 256 * mib);
    EXPECT_TRUE(saved().metadataDue);
    ASSERT_EQ(elements.size(), 3U);
    pending.at(2)({});
    EXPECT_FALSE(saved().metadataDue);
}

TEST_F(DomainMetadataTest, whatDoesNotHoldChangesNothingAndIsTold) {
    makeDomain();
    someoneSets("<overcommit limit='256MiB' max-stall='1%'/>");
    ASSERT_TRUE(limitBecomes(256 * mib));
    const auto before = saved();
    const auto refuses = [&](const std::string& element, const std::string& words) {
        someoneSets(element);
        ASSERT_TRUE(until([&] { return domain_->settingsNote().find(words) != std::string::npos; }))
            << domain_->settingsNote();
        EXPECT_THAT(domain_->settingsNote(), HasSubstr("what was set before is"));
        EXPECT_EQ(domain_->status().limitBytes, 256 * mib);
        EXPECT_EQ(domain_->status().proactiveMaxStall, 0.01);
        EXPECT_EQ(saved(), before);
    };
    refuses("<overcommit limit='lots'/>", "\"lots\" is not a size");
    refuses("<overcommit max-stall='2%' limit='1GiB'/>", "above the RAM of vm");
    refuses("<overcommit max-stall='2%' limit='1MiB'/>", "below the floor");
    refuses("<overcommit max-stall='80%'/>", "out of range");
    someoneSets("<overcommit limit='300MiB'/>");
    ASSERT_TRUE(limitBecomes(300 * mib));
    EXPECT_EQ(domain_->settingsNote(), "");
}

TEST_F(DomainMetadataTest, aManagerThatRefusesHalfOfItLeavesTheOtherHalfAsItWas) {
    const FakeManagerMood mood("limit-fails");
    makeDomain();
    ASSERT_TRUE(attach());
    settle();
    someoneSets("<overcommit limit='256MiB' max-stall='1%'/>");
    ASSERT_TRUE(until([&] { return !domain_->settingsNote().empty(); }));
    EXPECT_THAT(domain_->settingsNote(), HasSubstr("the manager does not like it"));
    EXPECT_EQ(saved(), (db::Policy{true, 0}));
    ASSERT_TRUE(until([&] { return domain_->status().proactiveMaxStall == 0; }));
}

TEST_F(DomainMetadataTest, aStartTakesTheElementRatherThanWhatIsRemembered) {
    ASSERT_TRUE(policies_.save(uuid, "vm", {true, 300 * mib}));
    stored_ = "<overcommit limit='256MiB'/>";
    domain_ = std::make_unique<Domain>(environment_, uuid, "vm");
    domain_->update(info());
    EXPECT_TRUE(limitBecomes(256 * mib));
    EXPECT_EQ(saved(), (db::Policy{true, 256 * mib}));
}

TEST_F(DomainMetadataTest, withoutAnElementWhatIsRememberedHolds) {
    ASSERT_TRUE(policies_.save(uuid, "vm", {true, 300 * mib}));
    domain_ = std::make_unique<Domain>(environment_, uuid, "vm");
    domain_->update(info());
    EXPECT_TRUE(limitBecomes(300 * mib));
    settle();
    EXPECT_EQ(writes_, 0);
}

TEST_F(DomainMetadataTest, whatCouldNotBeWrittenIsWrittenLaterAndNotOverruledByWhatIsOlder) {
    makeDomain();
    someoneSets("<overcommit limit='256MiB'/>");
    ASSERT_TRUE(limitBecomes(256 * mib));
    refusal_ = Error{ErrorCode::hypervisorUnavailable, "libvirtd is away"};
    ASSERT_TRUE(setLimit(200 * mib));
    ASSERT_TRUE(until([&] { return writes_ == 1; }));
    settle();
    EXPECT_TRUE(saved().metadataDue);

    // Also where the daemon is another one by then.
    restartDaemon();
    ASSERT_TRUE(reaches(State::attached));
    refusal_.reset();
    domain_->update(info());
    ASSERT_TRUE(until([&] { return stored_ == "<overcommit limit=\"200MiB\"/>" && !saved().metadataDue; }));
    settle();
    EXPECT_EQ(domain_->status().limitBytes, 200 * mib);
}

TEST_F(DomainMetadataTest, somebodyWhoSpeaksAfterAWriteThatFailedIsHeard) {
    makeDomain();
    ASSERT_TRUE(attach());
    settle();
    refusal_ = Error{ErrorCode::systemError, "libvirt has no room"};
    ASSERT_TRUE(setLimit(200 * mib));
    ASSERT_TRUE(until([&] { return !domain_->settingsNote().empty(); }));
    EXPECT_THAT(domain_->settingsNote(), HasSubstr("libvirt has no room"));
    someoneSets("<overcommit limit='256MiB'/>");
    ASSERT_TRUE(limitBecomes(256 * mib));
    EXPECT_EQ(domain_->settingsNote(), "");
    EXPECT_FALSE(saved().metadataDue);
}

TEST_F(DomainMetadataTest, aDomainThatIsShutOffTakesItsWordForTheNextStart) {
    makeDomain();
    vm_->end();
    domain_->update(info(false));
    someoneSets("<overcommit limit='256MiB'/>");
    EXPECT_EQ(domain_->limitBytes(), 256 * mib);
    EXPECT_EQ(saved(), (db::Policy{true, 256 * mib}));
    someoneSets("<overcommit limit='2GiB'/>");
    EXPECT_THAT(domain_->settingsNote(), HasSubstr("above the RAM of vm"));
    EXPECT_EQ(domain_->limitBytes(), 256 * mib);
    someoneSets(std::nullopt);
    EXPECT_TRUE(until([&] { return saved() == db::Policy{}; }));
}

TEST_F(DomainMetadataTest, whatIsSaidWhileItAttachesIsTakenWhenItIsAttached) {
    makeDomain();
    someoneSets("<overcommit limit='256MiB'/>");
    ASSERT_TRUE(reaches(State::attaching));
    someoneSets("<overcommit limit='128MiB'/>");
    EXPECT_TRUE(limitBecomes(128 * mib));
    settle();
    EXPECT_EQ(domain_->status().limitBytes, 128 * mib);
}

TEST_F(DomainMetadataTest, noLimitIsAboveLibvirtsHardLimit) {
    makeDomain();
    const auto memtune = [&](std::uint64_t bytes) {
        hardLimit_ = bytes;
        domain_->update(info());
    };
    memtune(200 * mib);
    ASSERT_TRUE(attach());
    EXPECT_EQ(domain_->status().limitBytes, 0U);  // nobody asked for one
    EXPECT_EQ(domain_->limitNote(), "");
    ASSERT_TRUE(setLimit(300 * mib));
    EXPECT_EQ(domain_->status().limitBytes, 200 * mib);
    EXPECT_THAT(domain_->limitNote(),
                HasSubstr("hard limit of 200.0 MiB (virsh memtune vm) is lower than the limit of 300.0"));
    EXPECT_EQ(saved().limitBytes, 300 * mib);  // as it was asked for: the hard limit may go
    ASSERT_TRUE(until([&] { return stored_ == "<overcommit limit=\"300MiB\"/>" && !saved().metadataDue; }));
    settle();
    EXPECT_EQ(domain_->status().limitBytes, 200 * mib);
    memtune(1 * mib);  // no guest can live there
    EXPECT_TRUE(limitBecomes(32 * mib));
    memtune(250 * mib);
    EXPECT_TRUE(limitBecomes(250 * mib));
    memtune(0);
    EXPECT_TRUE(limitBecomes(300 * mib));
    EXPECT_EQ(domain_->limitNote(), "");
    ASSERT_TRUE(setLimit(100 * mib));
    memtune(200 * mib);
    settle();
    EXPECT_EQ(domain_->status().limitBytes, 100 * mib);
}

TEST_F(DomainMetadataTest, aDetachThatFailsAfterARemovalIsTold) {
    const FakeManagerMood mood("detach-fails");
    makeDomain();
    someoneSets("<overcommit limit='256MiB'/>");
    ASSERT_TRUE(limitBecomes(256 * mib));
    someoneSets(std::nullopt);
    ASSERT_TRUE(until([&] { return !domain_->settingsNote().empty(); }));
    EXPECT_THAT(domain_->settingsNote(), HasSubstr("element was removed, but it cannot be detached"));
    EXPECT_EQ(domain_->state(), State::attached);
    EXPECT_EQ(saved(), (db::Policy{true, 256 * mib}));
}

}  // namespace
}  // namespace thermocline
