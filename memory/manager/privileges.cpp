// SPDX-License-Identifier: Apache-2.0
#include "memory/manager/privileges.h"

#include <cap-ng.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <memory>

namespace thermocline::manager {
namespace {

/// What a program that serves page faults has no business doing. A list of what is forbidden, not of what is
/// allowed: an unforeseen call of a newer C library on the fault path must not kill a manager and stop its
/// VM.
Result<void> forbidCalls() {
    const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_ALLOW),
                                                                   &seccomp_release);
    if (!filter) return fail(ErrorCode::permissionDenied, "seccomp_init failed");
    for (const int call :
         {SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(ptrace),
          SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(socket), SCMP_SYS(connect),
          SCMP_SYS(bind), SCMP_SYS(mount), SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(bpf),
          SCMP_SYS(perf_event_open), SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key),
          SCMP_SYS(pidfd_getfd), SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup),
          // CAP_SYS_NICE is for sched_setaffinity, and what is allowed of setpriority and sched_setscheduler
          // below:
          SCMP_SYS(sched_setattr), SCMP_SYS(sched_setparam), SCMP_SYS(ioprio_set), SCMP_SYS(migrate_pages),
          SCMP_SYS(move_pages), SCMP_SYS(kill), SCMP_SYS(tkill)}) {
        if (const int error = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), call, 0); error != 0)
            return failErrno(fmt::format("seccomp_rule_add({})", call), -error, ErrorCode::permissionDenied);
    }
    // A policy's thread that does not come back may be made to wait for all others, which is the lowest of
    // what setpriority gives.
    for (const auto& otherwise : {SCMP_A0(SCMP_CMP_NE, PRIO_PROCESS), SCMP_A2(SCMP_CMP_NE, 19)})
        if (const int error =
                seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), SCMP_SYS(setpriority), 1, otherwise);
            error != 0)
            return failErrno("seccomp_rule_add(setpriority)", -error, ErrorCode::permissionDenied);
    // The fault handler gives way and comes back (memory/give_way.h): nothing above other processes.
    for (const auto& otherwise :
         {SCMP_A1(SCMP_CMP_EQ, SCHED_FIFO), SCMP_A1(SCMP_CMP_EQ, SCHED_RR), SCMP_A1(SCMP_CMP_EQ, SCHED_BATCH),
          SCMP_A1(SCMP_CMP_EQ, SCHED_BATCH + 1), SCMP_A1(SCMP_CMP_GT, SCHED_IDLE)})
        if (const int error = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM),
                                               SCMP_SYS(sched_setscheduler), 1, otherwise);
            error != 0)
            return failErrno("seccomp_rule_add(sched_setscheduler)", -error, ErrorCode::permissionDenied);
    if (const int error = seccomp_load(filter.get()); error != 0)
        return failErrno("seccomp_load", -error, ErrorCode::permissionDenied);
    return {};
}

}  // namespace

Result<void> dropPrivileges() {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return failErrno("PR_SET_NO_NEW_PRIVS", errno, ErrorCode::permissionDenied);
    if (::geteuid() == 0) {
        const auto* nobody = ::getpwnam("nobody");
        if (nobody == nullptr) return fail(ErrorCode::permissionDenied, "there is no user nobody to run as");
        capng_clear(CAPNG_SELECT_BOTH);
        // Where the agents run is ours to say (memory/agent_lane.h): they are threads of another user's
        // process.
        capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED), CAP_SYS_NICE);
        // Changes the ids while it still may.
        if (const int error =
                capng_change_id(static_cast<int>(nobody->pw_uid), static_cast<int>(nobody->pw_gid),
                                static_cast<capng_flags_t>(CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING));
            error != 0)
            return fail(ErrorCode::permissionDenied,
                        fmt::format("cannot become user nobody (capng_change_id: {})", error));
    }
    return forbidCalls();
}

}  // namespace thermocline::manager
