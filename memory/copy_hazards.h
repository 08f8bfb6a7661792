// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reasons why the pages of a VM must not be taken out by copying or unmapping (any Mechanism but move). What
// can be seen while it happens, and may change, is looked for by the pager (pager_copying.cpp) as well. Plain
// functions, thread-safe.

#include <sys/types.h>

#include <string>

#include "common/error.h"
#include "memory/guest_ram.h"

namespace thermocline::memory {

/// Error: notSupported, with "what is wrong; what to do", where a byte could be lost:
///   - a file is open with O_DIRECT (disks with cache='none' or 'directsync'): a DMA in flight would be lost
///   - a vhost-scsi device: likewise, without a file of the process
///   - memory devices that can be unplugged (pc-dimm, virtio-mem, ...): munmap waits for nobody
///   - KVM may run guests of the guest: it then keeps pages that it writes to without the page tables
/// `nested`: text of the KVM module's parameter of that name; empty where there is none.
Result<void> refuseCopying(const QemuCommandLine& commandLine, const std::string& nested,
                           Mechanism mechanism = Mechanism::copy);

/// ... of a running process: what it has open, and this host's KVM. Errors: also processGone,
/// permissionDenied.
Result<void> refuseCopying(pid_t pid, const QemuCommandLine& commandLine,
                           Mechanism mechanism = Mechanism::copy);

}  // namespace thermocline::memory
