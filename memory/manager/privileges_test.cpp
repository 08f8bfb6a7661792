// SPDX-License-Identifier: Apache-2.0
#include "memory/manager/privileges.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace thermocline::manager {
namespace {

bool refused(long result) {
    return result == -1 && errno == EPERM;
}

/// In a process that has no way back.
[[noreturn]] void dropAndTry(bool (*asExpected)()) {
    const auto dropped = dropPrivileges();
    std::_Exit(!dropped ? 2 : asExpected() ? 0 : 1);
}

TEST(Privileges, aThreadMayGiveWayAndComeBackAndRiseNoHigher) {
    EXPECT_EXIT(
        dropAndTry([] {
            const sched_param none{};
            const sched_param urgent{1};
            return ::sched_setscheduler(0, SCHED_IDLE, &none) == 0 &&
                   ::sched_setscheduler(0, SCHED_OTHER, &none) == 0 &&
                   refused(::sched_setscheduler(0, SCHED_FIFO, &urgent)) &&
                   refused(::sched_setscheduler(0, SCHED_RR, &urgent)) &&
                   refused(::sched_setscheduler(0, SCHED_BATCH, &none)) &&
                   refused(::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &urgent)) &&
                   refused(::syscall(SYS_sched_setscheduler, 0, 0x100000000L | SCHED_FIFO, &urgent)) &&
                   refused(::syscall(SYS_sched_setattr, 0, nullptr, 0)) &&
                   refused(::setpriority(PRIO_PROCESS, 0, -5)) && ::setpriority(PRIO_PROCESS, 0, 19) == 0;
        }),
        ::testing::ExitedWithCode(0), "");
}

TEST(Privileges, noOtherProgramIsStartedAndNoOtherProcessTouched) {
    EXPECT_EXIT(dropAndTry([] {
                    return refused(::execl("/bin/true", "true", nullptr)) &&
                           refused(::kill(::getppid(), 0)) &&
                           refused(::syscall(SYS_ptrace, 16, ::getppid(), 0, 0)) &&
                           refused(::syscall(SYS_pidfd_getfd, -1, 0, 0)) && refused(::setuid(0));
                }),
                ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace thermocline::manager
