// SPDX-License-Identifier: Apache-2.0

// Policies that misbehave, without a VM; vm_policy_test.cpp has one.

#include "memory/policy_host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "common/unique_fd.h"
#include "memory/testing/policy_directory.h"

namespace thermocline::memory {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

struct Pipe {
    Pipe() {
        int ends[2];
        if (::pipe(ends) != 0) throw std::runtime_error("pipe");
        out.reset(ends[0]);
        in.reset(ends[1]);
    }
    void send() const { (void)!::write(in.get(), "x", 1); }
    [[nodiscard]] char receive() const {
        char byte = 0;
        (void)!::read(out.get(), &byte, 1);
        return byte;
    }
    UniqueFd out;
    UniqueFd in;
};

class PolicyHostTest : public ::testing::Test {
  protected:
    static constexpr std::uint64_t blocks = 8;

    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "policies have to be root's, and this is not root";
        pages_ = std::make_unique<PageMap>(
            std::move(*PageMap::create(directory_.path().string() + "/pagemap", blocks)));
    }
    void start(const std::string& policy, std::vector<std::pair<std::string, std::string>> options) {
        PolicySettings settings{directory_.file(policy), directory_.path(), std::move(options), 200ms};
        host_ = std::make_unique<PolicyHost>(
            std::move(settings),
            PolicyView{*pages_, [] { return true; },
                       [](PageNumber, std::size_t, std::span<std::byte>) { return true; },
                       [] { return thermocline_policy_statistics{}; }, [] {}});
        host_->start();
    }
    void startScripted(const std::string& does, int pipe = -1, int answers = -1) {
        start("scripted", {{"does", does},
                           {"pipe", std::to_string(pipe)},
                           {"answers", std::to_string(answers)},
                           {"first", "2"},
                           {"count", "3"}});
    }
    template <typename Predicate>
    bool eventually(Predicate&& wanted) {
        const auto deadline = std::chrono::steady_clock::now() + 20s;
        while (!wanted()) {
            if (std::chrono::steady_clock::now() > deadline) return false;
            std::this_thread::yield();
        }
        return true;
    }
    /// Why it was switched off, once it was.
    std::string awaitOff() {
        EXPECT_TRUE(eventually([&] { return !host_->note().empty(); }));
        EXPECT_EQ(host_->choice(), nullptr);
        return host_->note();
    }

    testing::PolicyDirectory directory_;
    std::unique_ptr<PageMap> pages_;
    std::unique_ptr<PolicyHost> host_;
};

TEST_F(PolicyHostTest, whatAPolicyAsksForIsOnTheList) {
    startScripted("stage");
    ASSERT_TRUE(eventually([&] { return host_->choice() != nullptr; })) << host_->note();
    EXPECT_EQ(host_->name(), "scripted");
    auto* const choice = host_->choice();
    std::optional<BlockNumber> block;
    ASSERT_TRUE(eventually([&] { return (block = choice->toStage()).has_value(); }));
    EXPECT_EQ(block, 2U);
    host_->stop();
    EXPECT_EQ(host_->choice(), nullptr);
    EXPECT_EQ(host_->note(), "");
}

TEST_F(PolicyHostTest, aPolicyIsToldOfTheEnd) {
    const Pipe pipe;
    startScripted("tell-of-destroy", pipe.in.get());
    ASSERT_TRUE(eventually([&] { return host_->inCharge(); })) << host_->note();
    host_.reset();
    EXPECT_EQ(pipe.receive(), 'd');
}

TEST_F(PolicyHostTest, onesThatFailAreSwitchedOff) {
    const std::vector<std::pair<const char*, const char*>> ways{
        {"error-in-create", "create() returned 7 (cannot work here)"},
        {"throw-in-create", "create() threw an exception: no wish to work"},
        {"error-in-tick", "tick() returned -1"},
        {"throw-in-tick", "tick() threw an exception: no wish to work"},
        {"throw-a-number-in-tick", "tick() threw an unknown exception"},
        {"end-thread-in-tick", "tick() ended the thread"},
        {"ask-nonsense", "it asked 33 times for what cannot be"},
    };
    for (const auto& [does, why] : ways) {
        startScripted(does);
        EXPECT_THAT(awaitOff(), HasSubstr(why)) << does;
        EXPECT_THAT(host_->note(),
                    HasSubstr("policy \"scripted\" is switched off, the built-in one is in charge"));
        host_.reset();
    }
}

TEST_F(PolicyHostTest, anEventThatIsTooMuchForAPolicySwitchesItOff) {
    startScripted("throw-in-fault");
    ASSERT_TRUE(eventually([&] { return host_->inCharge(); })) << host_->note();
    host_->push({PolicyEvent::Kind::touched, 1});  // to which it does not listen
    host_->push({PolicyEvent::Kind::coldFault, 1});
    EXPECT_THAT(awaitOff(), HasSubstr("fault() threw an exception: no wish to listen"));
}

TEST_F(PolicyHostTest, onesThatDoNotReturnAreLeftBehind) {
    for (const char* does : {"block-in-create", "block-in-tick"}) {
        Pipe pipe;
        // Its thread's from now on: nobody knows when that has read from it, so it is never closed.
        startScripted(does, pipe.out.release());
        EXPECT_THAT(awaitOff(), HasSubstr("() has not returned after 200 ms")) << does;
        host_.reset();
        pipe.send();
    }
    Pipe pipe;
    startScripted("block-in-destroy", pipe.out.release());
    ASSERT_TRUE(eventually([&] { return host_->inCharge(); })) << host_->note();
    host_->stop();
    EXPECT_THAT(host_->note(), HasSubstr("destroy() has not returned"));
    host_.reset();
    pipe.send();
}

TEST_F(PolicyHostTest, oneThatComesBackLateFindsTheDoorClosed) {
    const Pipe pipe;
    const Pipe answers;
    startScripted("come-back-late", pipe.out.get(), answers.in.get());
    EXPECT_THAT(awaitOff(), HasSubstr("tick() has not returned"));
    host_.reset();
    pages_.reset();  // what it would have looked at
    pipe.send();
    EXPECT_EQ(-answers.receive(), THERMOCLINE_OFF);
}

TEST_F(PolicyHostTest, theSameComesBackInTimeAndIsAnswered) {
    const Pipe pipe;
    const Pipe answers;
    pipe.send();
    startScripted("come-back-late", pipe.out.get(), answers.in.get());
    EXPECT_EQ(-answers.receive(), THERMOCLINE_OK);
    pipe.send();  // for the next tick
    EXPECT_EQ(-answers.receive(), THERMOCLINE_OK);
    host_->stop();
    pipe.send();
}

TEST_F(PolicyHostTest, onesThatCannotBeLoadedAreNamed) {
    start("wrong_version", {});
    EXPECT_THAT(awaitOff(), HasSubstr("policy \"wrong_version\" is switched off"));
    start("no_entry", {});
    EXPECT_THAT(awaitOff(), HasSubstr("does not export"));
    start("window", {{"windows", "3"}});
    EXPECT_THAT(awaitOff(), HasSubstr("unknown option \"windows\""));
}

}  // namespace
}  // namespace thermocline::memory
