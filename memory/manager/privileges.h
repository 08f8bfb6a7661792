// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/error.h"

namespace thermocline::manager {

/// Gives up, for the whole process and for good, what only attaching needs: every capability but
/// CAP_SYS_NICE, the bounding set, the groups, root's user id (user nobody instead), new privileges through
/// exec, and the right to start programs or open network connections (seccomp: such calls fail with EPERM).
/// Descriptors that are open already go on working. REQUIRES: one thread, or seccomp and ids would apply to
/// some threads only. Error: permissionDenied.
Result<void> dropPrivileges();

}  // namespace thermocline::manager
