// SPDX-License-Identifier: Apache-2.0
#pragma once

// Can this host, and can this process, be overcommitted? Asked before anything is touched; reads only.
// Thread-safe: no shared state.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "memory/mechanism.h"

namespace thermocline::memory {

/// One thing that was checked. `fix` says exactly what to do where `ok` is false.
struct Finding {
    std::string name;  ///< for example "userfaultfd device"
    bool ok = false;
    std::string detail;  ///< what was found
    std::string fix;     ///< empty where ok
};

struct HostSupport {
    bool usable = false;
    std::optional<Mechanism> mechanism;  ///< the best for private memory; none where not usable
    std::vector<Finding> findings;
};

/// Probes the running kernel (userfaultfd device and features, UFFDIO_MOVE by really moving a page, else
/// write-protection; shared memory, without which private memory is usable all the same; the page map,
/// ptrace). `userfaultfdDevice` is a parameter for tests.
HostSupport probeHost(const std::string& userfaultfdDevice = "/dev/userfaultfd");

struct GuestSupport {
    bool usable = false;
    std::string mechanism;          ///< a mechanism's name where usable, else "none"
    std::uint64_t memoryBytes = 0;  ///< guest RAM found, 0 where unknown
    std::string reason;             ///< why not, empty where usable
    std::string fix;                ///< what to do about it, empty where usable or where nothing can be done
};

/// Looks at a QEMU process: guest RAM found without ambiguity, not locked, pinned (VFIO), shared with another
/// process, huge-tlb, encrypted (SEV, TDX) or attached already; by `mechanism`, or the host's where none is
/// given; Mechanism::unmap: by that where guest RAM is shared, else by the host's. Errors: processGone,
/// permissionDenied; notSupported where the host has none.
Result<GuestSupport> probeGuest(pid_t pid, std::optional<Mechanism> mechanism = std::nullopt,
                                const std::string& userfaultfdDevice = "/dev/userfaultfd");

}  // namespace thermocline::memory
