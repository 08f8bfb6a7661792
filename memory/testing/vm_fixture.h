// SPDX-License-Identifier: Apache-2.0
#pragma once

// The whole engine on a process of the test's own, with a state directory of its own. For tests.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "memory/testing/subject_process.h"
#include "memory/vm_memory.h"

namespace thermocline::memory::testing {

class VmFixture : public ::testing::Test {
  protected:
    /// A test that overrides this calls it once nothing holds the engine up any more.
    void TearDown() override {
        vm_.reset();
        EXPECT_TRUE(std::filesystem::is_empty(directory_)) << "files were left in the state directory";
        std::filesystem::remove_all(directory_);
    }
    [[nodiscard]] VmMemory::Options optionsFor(const SubjectProcess& subject) const {
        VmMemory::Options options;
        options.pid = subject.pid();
        options.guestRam = subject.guestRam();
        options.stateDirectory = directory_;
        return options;
    }
    void attach(VmMemory::Options options) {
        auto vm = VmMemory::attach(std::move(options));
        ASSERT_TRUE(vm) << vm.error().message;
        vm_ = std::move(*vm);
        vm_->start();
    }
    /// Nothing of it is left in the process.
    void expectDetached() {
        const auto detached = vm_->detach();
        ASSERT_TRUE(detached) << detached.error().message;
        const auto footprint = vm_->footprint();
        vm_.reset();
        const auto cured = cure(footprint);
        ASSERT_TRUE(cured) << cured.error().message;
        EXPECT_EQ(findAttachedDescriptor(footprint.pid), std::nullopt);
    }
    /// The engine works behind its callers: waits until its status is as wanted; false after 30 s.
    template <typename Predicate>
    bool eventually(Predicate&& wanted) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (!wanted(vm_->status())) {
            if (std::chrono::steady_clock::now() > deadline) return false;
            std::this_thread::yield();
        }
        return true;
    }
    bool awaitLimitMet() {
        return eventually([](const Status& status) { return status.usedBytes <= status.limitBytes; });
    }

    const std::string directory_ = ::mkdtemp(std::string("/dev/shm/thermocline-test-XXXXXX").data());
    std::unique_ptr<VmMemory> vm_;
};

}  // namespace thermocline::memory::testing
