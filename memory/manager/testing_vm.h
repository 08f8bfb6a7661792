// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "memory/manager/protocol.h"
#include "memory/testing/manager_child.h"
#include "memory/testing/subject_process.h"

namespace thermocline::manager::testing {

using memory::testing::ManagerChild;
using memory::testing::SubjectProcess;
inline constexpr std::uint64_t mib = 1U << 20;
inline constexpr std::uint64_t ramMib = 64;
inline constexpr std::uint64_t pages = ramMib * mib / 4096;

/// A VM, its manager, and the one after that.
class Vm {
  public:
    explicit Vm(bool huge, const std::string& fill = "mixed")
        : subject_(ramMib * mib, huge, {"-m", std::to_string(ramMib)}) {
        EXPECT_EQ(subject_.command("fill 1 " + fill), "ok");
    }
    /// For all managers from now on; beside the tests, so on a disk.
    void useFileTier() {
        options_ = {"--file-tier-dir", std::filesystem::current_path(), "--file-tier-age", "0"};
    }
    void useNoFileTier() { options_.clear(); }
    void attach(const std::string& killAt = {}) {
        const auto ready = start(killAt, {});
        ASSERT_TRUE(ready.is_object() && ready.at("ok").get<bool>()) << ready;
        manager_.connect();
    }
    /// False where it was attached before the point was passed so often.
    bool attachKilled(const std::string& killAt) {
        const auto ready = start(killAt, {});
        if (ready.is_null()) {
            EXPECT_EQ(manager_.exitCode(), -SIGKILL);
            return true;
        }
        EXPECT_TRUE(ready.at("ok").get<bool>()) << ready;
        manager_.connect();
        return false;
    }
    /// The ready line.
    nlohmann::json recover(const std::string& killAt = {}) { return start(killAt, {"--recover"}); }
    void mustRecover(const std::string& killAt = {}) {
        const auto ready = recover(killAt);
        ASSERT_TRUE(ready.is_object() && ready.at("ok").get<bool>()) << ready;
        manager_.connect();
    }
    /// False where the manager is dead.
    bool setLimit(std::uint64_t bytes) {
        const auto answer =
            manager_.tryCall({{"id", 1}, {"method", "set-limit"}, {"params", {{"limit_bytes", bytes}}}});
        return !answer.is_null();
    }
    std::optional<Status> status() {
        const auto answer = manager_.tryCall({{"id", 1}, {"method", "status"}});
        if (answer.is_null()) return std::nullopt;
        return answer.at("result").get<Status>();
    }
    template <typename Predicate>
    Status await(Predicate&& wanted) {
        for (;;) {
            const auto now = status();
            if (!now) throw std::runtime_error("the manager died");
            if (wanted(*now)) return *now;
        }
    }
    /// Limits of all sizes, until the manager dies where it was told to. False where it does not.
    bool changeLimitsUntilItDies() {
        std::mt19937_64 random(7);
        for (int i = 0; i < 4000; ++i) {
            const std::array<std::uint64_t, 5> limits{0, 48 * mib, 24 * mib, 40 * mib, 32 * mib};
            if (!setLimit(limits.at(random() % limits.size()))) return true;
            for (unsigned n = 0; n < 20 + random() % 60; ++n) {
                if (!status()) return true;
                ::poll(nullptr, 0, 1);  // the guest is to do something under this limit
            }
        }
        return false;
    }
    void kill() {
        manager_.signal(SIGKILL);
        EXPECT_EQ(manager_.exitCode(), -SIGKILL);
    }
    void handOver() {
        const auto answer = manager_.call({{"id", 2}, {"method", "hand-over"}});
        EXPECT_TRUE(answer.contains("result")) << answer;
        EXPECT_EQ(manager_.exitCode(), 0);
    }
    void detach() {
        const auto answer = manager_.call({{"id", 2}, {"method", "detach"}});
        EXPECT_EQ(answer.at("result").at("state"), "detached") << answer;
        EXPECT_EQ(manager_.exitCode(), 0);
    }
    void cure() {
        EXPECT_EQ(runCure(), 0);
        EXPECT_TRUE(std::filesystem::is_empty(manager_.directory()));
    }
    void detachAndCure() {
        detach();
        cure();
    }
    /// REQUIRES: the subject hammers. It goes on under a limit, and every byte is right, now and without us.
    void goOnUnderALimitAndEnd() {
        ASSERT_TRUE(setLimit(40 * mib));
        await([](const Status& now) { return now.usedBytes <= 40 * mib && now.coldBytes > 0; });
        ASSERT_EQ(subject_.command("await-more 2000"), "ok");
        EXPECT_EQ(subject_.command("stop").substr(0, 3), "ok ");
        EXPECT_EQ(subject_.command("verify"), fmt::format("ok {}", pages));
        detachAndCure();
        EXPECT_EQ(subject_.command("verify"), fmt::format("ok {}", pages));
    }
    /// False where it was done before the point was passed so often.
    bool cureKilled(const std::string& killAt) {
        const KillAt told("THERMOCLINE_KILL_CURE_AT", killAt);
        const int exitCode = runCure();
        EXPECT_TRUE(exitCode == -SIGKILL || exitCode == 0) << exitCode;
        return exitCode != 0;
    }
    SubjectProcess& subject() { return subject_; }
    ManagerChild& manager() { return manager_; }

  private:
    /// For the managers that are started meanwhile; empty: no point.
    class KillAt {
      public:
        KillAt(const char* variable, const std::string& point) : variable_(variable) {
            if (!point.empty()) ::setenv(variable_, point.c_str(), 1);
        }
        ~KillAt() { ::unsetenv(variable_); }
        KillAt(const KillAt&) = delete;
        KillAt& operator=(const KillAt&) = delete;

      private:
        const char* variable_;
    };

    nlohmann::json start(const std::string& killAt, const std::vector<std::string>& more) {
        const KillAt told("THERMOCLINE_KILL_AT", killAt);
        auto arguments = options_;
        arguments.insert(arguments.end(), more.begin(), more.end());
        return manager_.start(subject_.pid(), arguments);
    }
    int runCure() const {
        return ManagerChild::run(
            {"cure", "--pid", std::to_string(subject_.pid()), "--state-dir", manager_.directory()}, true);
    }

    SubjectProcess subject_;
    ManagerChild manager_{true};
    std::vector<std::string> options_;
};

}  // namespace thermocline::manager::testing
