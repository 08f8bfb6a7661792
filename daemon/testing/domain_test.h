// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "daemon/domain.h"
#include "daemon/testing/fake_vm.h"
#include "db/testing/temporary_directory.h"

namespace thermocline::testing {

inline const std::string uuid = uniqueUuid();
inline constexpr std::uint64_t mib = 1 << 20;

/// A domain "vm" of 512 MiB with real processes: the VM and its manager are fakes that only sit there and
/// talk.
class DomainTest : public ::testing::Test {
  protected:
    static constexpr auto patience = std::chrono::seconds(10);

    DomainTest() { startVm(); }

    void TearDown() override {
        // The end of the VM ends its manager, and with the domain's directory the mount can go.
        vm_->end();
        if (domain_) {
            EXPECT_TRUE(loop_.runUntil([&] { return domain_->idle(); }, patience));
            domain_.reset();
        }
    }

    void startVm() {
        vm_ = std::make_unique<FakeVm>(uuid);
        if (domain_) domain_->update({uuid, "vm", true, false, 512 * mib});
    }
    void makeDomain() {
        domain_ = std::make_unique<Domain>(environment_, uuid, "vm");
        domain_->update({uuid, "vm", true, false, 512 * mib});
    }
    /// Another daemon: nothing of the first one's memory, but what it left on disk and in processes.
    void restartDaemon() {
        domain_.reset();
        domain_ = std::make_unique<Domain>(environment_, uuid, "vm");
        const auto records = runtime_.domains();
        ASSERT_EQ(records.size(), 1U);
        domain_->adopt(records[0]);
    }
    Result<void> finish(const std::function<void(Domain::Done)>& request) {
        std::optional<Result<void>> result;
        request([&](Result<void> done) { result = std::move(done); });
        if (!loop_.runUntil([&] { return result.has_value(); }, patience))
            return fail(ErrorCode::internal, "no answer in time");
        return *result;
    }
    Result<void> attach() {
        return finish([&](Domain::Done done) { domain_->attach(std::move(done)); });
    }
    Result<void> detach() {
        return finish([&](Domain::Done done) { domain_->detach(std::move(done)); });
    }
    Result<void> setLimit(std::uint64_t bytes) {
        return finish([&](Domain::Done done) { domain_->setLimit(bytes, std::move(done)); });
    }
    Result<void> clearLimit() {
        return finish([&](Domain::Done done) { domain_->clearLimit(std::move(done)); });
    }
    Result<void> setProactive(double maxStall, std::uint64_t minResident = 0) {
        return finish(
            [&](Domain::Done done) { domain_->setProactive(maxStall, minResident, std::move(done)); });
    }
    Result<void> closeFileTier() {
        return finish([&](Domain::Done done) { domain_->closeFileTier(std::move(done)); });
    }
    bool reaches(Domain::State state) {
        return loop_.runUntil([&] { return domain_->state() == state; }, patience);
    }
    /// REQUIRES: attached.
    pid_t managerPid() {
        struct Nobody : ManagerClient::Listener {
            void onStatus(const manager::Status& /*status*/) override {}
            void onGone() override {}
            void onClosed() override {}
        } nobody;
        return ManagerClient::connect(loop_, directory() / manager::socketFileName, nobody)
            .value()
            ->managerPid();
    }
    [[nodiscard]] std::filesystem::path directory() const { return runtime_.domainDirectory(uuid); }
    [[nodiscard]] db::Policy saved() { return policies_.load(uuid).value(); }
    static void expectError(const Result<void>& result, ErrorCode code, const std::string& words) {
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code, code) << result.error().message;
        EXPECT_THAT(result.error().message, ::testing::HasSubstr(words));
    }

    TemporaryDirectory temporary_;
    EventLoop loop_;
    db::Database database_ = db::Database::open(temporary_.path() / "thermocline.db").value();
    db::PolicyStore policies_{database_};
    RuntimeDirectory runtime_ = RuntimeDirectory::open(temporary_.path() / "run").value();
    QemuProcesses processes_{temporary_.path()};
    ManagerProcesses managers_{
        loop_, THERMOCLINE_FAKE_MANAGER, std::chrono::seconds(2), {"/disk", 5 * mib, {}, 0.5}};
    int probes_ = 0;
    int changes_ = 0;
    Domain::Environment environment_{
        loop_,
        managers_,
        policies_,
        processes_,
        runtime_,
        [this](pid_t) -> Result<memory::GuestSupport> {
            ++probes_;
            return memory::GuestSupport{false, "none", 0, "locked", "remove <locked/>"};
        },
        [this](Domain&) { ++changes_; },
        std::chrono::milliseconds(500)};
    std::unique_ptr<FakeVm> vm_;
    std::unique_ptr<Domain> domain_;
};

}  // namespace thermocline::testing
