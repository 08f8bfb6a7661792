// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where a QEMU process keeps its guest's RAM, found from its command line and its mappings; never guessed.
// Plain functions, thread-safe.

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "memory/mechanism.h"
#include "memory/page.h"
#include "memory/process_map.h"

namespace thermocline::memory {

/// One piece of guest RAM as QEMU was told to make it.
struct MemoryBackend {
    std::string type;  ///< memory-backend-ram, -file, -memfd, ...
    std::string id;
    std::uint64_t bytes = 0;
    bool shared = false;
    bool hugetlb = false;
};

/// What matters to us on a QEMU command line.
struct QemuCommandLine {
    std::vector<MemoryBackend> backends;
    std::string uuid;
    bool memoryLocked = false;  ///< -overcommit mem-lock=on
    std::string pinningDevice;  ///< first vfio or vDPA device that pins guest RAM, empty if none
    std::string sharingDevice;  ///< first vhost-user device, whose back end maps guest RAM; empty if none
    std::string kernelDevice;   ///< first vhost-scsi device, for which the kernel has DMA done; empty if none
    std::string encryption;     ///< "sev-guest", "tdx-guest", ...; empty if none
    std::string memoryDevice;   ///< first pc-dimm, nvdimm, virtio-mem or virtio-pmem, empty if none
    bool kvm = false;           ///< -accel kvm, in any of its forms
    bool nestingOff = false;    ///< -cpu ...,vmx=off or svm=off
};

/// Parses the NUL-separated text of /proc/PID/cmdline. Error: notSupported where it names no guest RAM.
Result<QemuCommandLine> parseQemuCommandLine(std::string_view text);

struct GuestRam {
    std::vector<VmRange> ranges;  ///< page-aligned, in address order
    bool shared = false;          ///< of a memfd or anonymous memory that is shared; else private anonymous
    Mechanism mechanism = Mechanism::move;  ///< the one that is to be used; set by discoverGuestRam()
    [[nodiscard]] std::uint64_t bytes() const;
};

/// Picks the mappings that hold the backends. Error: notSupported, with a reason, where that is not certain,
/// or where the memory is of a kind that cannot be overcommitted.
Result<GuestRam> locateGuestRam(const QemuCommandLine& commandLine, const std::vector<Mapping>& mappings);

/// Whether guest RAM that is shared is taken, by unmapping it. `refuse` is what to use where nobody has said
/// that no back end of a vhost-user device is ever plugged in: until that is noticed it would find zeros
/// where pages are cold, and what it wrote there would be lost.
enum class SharedMemory { refuse, take };

/// Both steps and every reason why `pid` cannot be overcommitted. `forPrivate`: the mechanism for private
/// memory. Errors: processGone, permissionDenied, notSupported, alreadyAttached.
Result<GuestRam> discoverGuestRam(pid_t pid, Mechanism forPrivate, SharedMemory shared);

}  // namespace thermocline::memory
