// SPDX-License-Identifier: Apache-2.0
#pragma once

// One userfaultfd context of the VM's process, used from the manager. Every call is one ioctl; thread-safe
// like the descriptor itself. See Documentation/admin-guide/mm/userfaultfd.rst.

#include <linux/userfaultfd.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/page.h"

namespace thermocline::memory {

/// What became of a page that we tried to put into the VM's memory.
enum class Populate {
    done,      ///< it is there now
    present,   ///< a page was there already: that one counts
    retry,     ///< the address space is changing: read the pending events, then try again
    unmapped,  ///< no registered mapping is there (any more)
    gone,      ///< the process is ending
    failed,    ///< the host has no memory for it
    hole,      ///< the file has no page there (mapFromFile())
};

/// When who waits for a page that is put into the VM's memory is woken.
enum class Waking {
    now,
    later,  ///< by wake()
};

class Userfault {
  public:
    explicit Userfault(UniqueFd fd) : fd_(std::move(fd)) {}

    /// UFFDIO_API with exactly these features. Error: notSupported, naming the kernel that has them.
    Result<void> enable(std::uint64_t features);
    /// Faults in `range` come to us from now on; `modes`: UFFDIO_REGISTER_MODE_..., which faults.
    Result<void> registerRange(VmRange range, std::uint64_t modes);
    /// ... those on missing pages.
    Result<void> registerMissing(VmRange range) { return registerRange(range, UFFDIO_REGISTER_MODE_MISSING); }
    /// They no longer do; wakes who waits in `range`.
    Result<void> unregister(VmRange range);

    /// Puts `bytes` (whole pages of ours) at `to` and wakes who waits there. `copied` says how many bytes
    /// were put.
    Populate copy(VmAddress to, std::span<const std::byte> bytes, std::size_t& copied,
                  Waking waking = Waking::now);
    /// Maps the shared page of zeros.
    Populate zeroPage(VmAddress to);
    /// Maps the pages that the file behind `range` has, and wakes who waits there; `mapped` says how many
    /// bytes are. REQUIRES: shared memory that is registered for minor faults.
    Populate mapFromFile(VmRange range, std::size_t& mapped);
    void wake(VmRange range);
    /// Write-protects the pages that are in `range`: who writes waits. REQUIRES: registered for that.
    Populate protect(VmRange range);
    /// The opposite, and wakes who waits in `range`.
    Populate unprotect(VmRange range);

    /// Reads pending messages without blocking; returns how many were filled in. Reading an event lets the
    /// thread that caused it go on.
    std::size_t read(std::span<uffd_msg> messages);

    [[nodiscard]] int fd() const { return fd_.get(); }

  private:
    Populate writeProtect(VmRange range, std::uint64_t mode);

    UniqueFd fd_;
};

}  // namespace thermocline::memory
