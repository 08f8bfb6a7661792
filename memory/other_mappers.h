// SPDX-License-Identifier: Apache-2.0
#pragma once

// Who else has the file of guest RAM that is shared: the back ends of vhost-user devices (virtiofsd, DPDK,
// SPDK), which read and write it themselves. Their faults do not come to us: a page that is cold would be
// zeros to them. Plain functions, thread-safe; they need CAP_SYS_PTRACE, and see the processes of their own
// PID namespace, less what a security module hides even so.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "memory/page.h"

namespace thermocline::memory {

/// A process that could reach guest RAM on another way than through the mappings that we watch.
struct OtherMapper {
    pid_t pid = 0;
    std::string command;  ///< as in /proc/PID/comm
    bool maps = false;    ///< it has it mapped (the VM's process: once more); else only open
};

/// Looks through all processes. `except`: does not count (our manager, which has the file open). Errors:
/// processGone, permissionDenied; notSupported where no file is mapped at one of the ranges.
Result<std::optional<OtherMapper>> findOtherMapper(pid_t pid, const std::vector<VmRange>& guestRam,
                                                   pid_t except = 0);

/// Error: notSupported, with "what is wrong; what to do", where there is one.
Result<void> refuseOtherMappers(pid_t pid, const std::vector<VmRange>& guestRam, pid_t except = 0);

}  // namespace thermocline::memory
