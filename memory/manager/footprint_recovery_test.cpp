// SPDX-License-Identifier: Apache-2.0

// What is put into a VM's process and taken out again, where whoever does it is killed half-way.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "memory/attachment.h"
#include "memory/manager/testing_vm.h"
#include "memory/remote_process.h"
#include "memory/testing/anatomy.h"

namespace thermocline::manager {
namespace {

using memory::testing::Anatomy;
using testing::mib;
using testing::pages;
using testing::Vm;

std::string testName(const ::testing::TestParamInfo<const char*>& instance) {
    std::string name = instance.param;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
}

/// By the tracer's death at each of the steps that are taken in the process; the VM runs meanwhile.
class KilledWhileAttaching : public ::testing::TestWithParam<const char*> {};

TEST_P(KilledWhileAttaching, theVmGoesOnAndCanBeAttached) {
    Vm vm(false);
    const Anatomy before(vm.subject().pid());
    ASSERT_EQ(vm.subject().command("hammer 3"), "ok");
    int passes = 0;
    for (bool killed = true; killed; ++passes) {
        killed = vm.attachKilled(fmt::format("{}:{}", GetParam(), passes + 1));
        if (!killed) break;
        ASSERT_EQ(vm.subject().command("await-more 50"), "ok");
        vm.cure();
        ASSERT_FALSE(memory::findAttachedDescriptor(vm.subject().pid()));
        ASSERT_EQ(vm.subject().command("await-more 50"), "ok");
    }
    EXPECT_GE(passes, 1);
    // The last one was not killed.
    ASSERT_NO_FATAL_FAILURE(vm.goOnUnderALimitAndEnd());
    const Anatomy after(vm.subject().pid());
    EXPECT_EQ(before.threads, after.threads);
    // A socket pair, and two userfaultfds, of which nobody has noted yet that they were made.
    std::size_t left = 0;
    for (const auto& descriptor : after.descriptors)
        left += before.descriptors.contains(descriptor) ? 0 : 1;
    const bool betweenCallAndNote =
        std::string_view(GetParam()) == "remote-entered" || std::string_view(GetParam()) == "remote-returned";
    EXPECT_EQ(left, betweenCallAndNote ? 4U : 0U) << ::testing::PrintToString(after.descriptors);
}

INSTANTIATE_TEST_SUITE_P(Points, KilledWhileAttaching,
                         ::testing::Values("remote-stopped", "remote-masked", "remote-entered",
                                           "remote-returned", "remote-unmasked", "attachment-recorded"),
                         testName);

/// What the VM opens meanwhile gets the numbers that have become free, and is not to be closed.
class KilledWhileCuring : public ::testing::TestWithParam<const char*> {
  protected:
    static std::vector<int> openFiles(pid_t pid) {
        std::vector<int> numbers;
        auto remote = memory::RemoteProcess::stop(pid);
        for (int i = 0; remote && i < 4; ++i)
            numbers.push_back(static_cast<int>((*remote)->call("dup", SYS_dup, {0}).value()));
        return numbers;
    }
    static void closeFiles(pid_t pid, const std::vector<int>& numbers) {
        auto remote = memory::RemoteProcess::stop(pid);
        ASSERT_TRUE(remote);
        for (const int number : numbers)
            EXPECT_TRUE((*remote)->call("close", SYS_close, {static_cast<std::uint64_t>(number)})) << number;
    }
};

TEST_P(KilledWhileCuring, whatIsLeftIsTakenOutAndNothingElse) {
    Vm vm(false);
    vm.useFileTier();
    const auto pid = vm.subject().pid();
    const Anatomy before(pid);
    ASSERT_EQ(vm.subject().command("hammer 3"), "ok");
    int passes = 0;
    for (bool killed = true; killed; ++passes) {
        vm.attach();
        vm.detach();
        killed = vm.cureKilled(fmt::format("{}:{}", GetParam(), passes + 1));
        if (!killed) break;
        const auto opened = openFiles(pid);
        vm.cure();
        ASSERT_FALSE(memory::findAttachedDescriptor(pid));
        ASSERT_NO_FATAL_FAILURE(closeFiles(pid, opened));
        ASSERT_EQ(vm.subject().command("await-more 50"), "ok");
    }
    EXPECT_GE(passes, 1);
    EXPECT_EQ(vm.subject().command("stop").substr(0, 3), "ok ");
    EXPECT_EQ(vm.subject().command("verify"), fmt::format("ok {}", pages));
    const Anatomy after(pid);
    EXPECT_EQ(before.threads, after.threads);
    EXPECT_EQ(before.descriptors, after.descriptors);
}

INSTANTIATE_TEST_SUITE_P(Points, KilledWhileCuring,
                         ::testing::Values("remote-masked", "remote-entered", "remote-returned",
                                           "remote-unmasked"),
                         testName);

}  // namespace
}  // namespace thermocline::manager
