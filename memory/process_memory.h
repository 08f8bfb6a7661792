// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reads and writes the memory of the VM's process and asks what is populated, through descriptors that were
// opened while privileged (/proc/PID/mem, /proc/PID/pagemap) and need no privilege since. Never waits for a
// userfault: where a page of a registered range is missing, reading fails (the kernel allows no retry on this
// path). Thread-safe.

#include <functional>
#include <span>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/page.h"

namespace thermocline::memory {

class ProcessMemory {
  public:
    ProcessMemory(UniqueFd memory, UniqueFd pagemap)
        : memory_(std::move(memory)), pagemap_(std::move(pagemap)) {}

    /// Error: processGone, or systemError where not all of it could be read.
    Result<void> read(VmAddress from, std::span<std::byte> into) const;
    Result<void> write(VmAddress to, std::span<const std::byte> bytes) const;

    /// Calls `found` for each run of `range` that holds pages (present or in the kernel's swap), in address
    /// order.
    Result<void> forEachPopulated(VmRange range, const std::function<void(VmRange)>& found) const;
    [[nodiscard]] bool populated(VmAddress page) const;
    /// Is the block that starts at `block` one huge page?
    [[nodiscard]] bool isHuge(VmAddress block) const;

  private:
    UniqueFd memory_;
    UniqueFd pagemap_;
};

}  // namespace thermocline::memory
