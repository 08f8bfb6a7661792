// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reads and writes the memory of the VM's process and asks what is populated or pinned, through descriptors
// that were opened while privileged (/proc/PID/mem, pagemap, status) and need no privilege since. Never waits
// for a userfault: where a page of a registered range is missing, reading fails (the kernel allows no retry
// on this path). Thread-safe.

#include <functional>
#include <span>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/page.h"

namespace thermocline::memory {

class ProcessMemory {
  public:
    ProcessMemory(UniqueFd memory, UniqueFd pagemap, UniqueFd status = {})
        : memory_(std::move(memory)), pagemap_(std::move(pagemap)), status_(std::move(status)) {}

    /// Error: processGone, or systemError where not all of it could be read.
    Result<void> read(VmAddress from, std::span<std::byte> into) const;
    Result<void> write(VmAddress to, std::span<const std::byte> bytes) const;

    /// Calls `found` for each run of `range` that holds pages (present or in the kernel's swap), in address
    /// order.
    Result<void> forEachPopulated(VmRange range, const std::function<void(VmRange)>& found) const;
    [[nodiscard]] bool populated(VmAddress page) const;
    /// Is the block that starts at `block` one huge page? Linux 6.7 or newer can tell; false on others.
    [[nodiscard]] bool isHuge(VmAddress block) const;

    /// What /proc/PID/status tells of the process as a whole.
    struct Totals {
        std::uint64_t pinnedBytes = 0;  ///< for DMA, for long (VFIO, registered io_uring buffers)
        std::uint32_t descriptors = 0;  ///< all descriptors are below this number
    };
    /// REQUIRES: made with a descriptor of status. Error: processGone.
    [[nodiscard]] Result<Totals> totals() const;

  private:
    UniqueFd memory_;
    UniqueFd pagemap_;
    UniqueFd status_;
};

}  // namespace thermocline::memory
