// SPDX-License-Identifier: Apache-2.0
#pragma once

// The files (memfds) behind guest RAM that is shared, by page numbers (address_map.h): a page that is mapped
// nowhere is still there. Numbers of pages and bytes are within one range of guest RAM. Thread-safe; opened
// while privileged, needs no privilege since.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/page.h"

namespace thermocline::memory {

class GuestFiles {
  public:
    GuestFiles() = default;
    /// Those that process `pid` has mapped shared at `ranges`. Errors: notSupported where it has something
    /// else there, or where no page can be freed (a seal against writing); processGone, permissionDenied.
    static Result<GuestFiles> open(pid_t pid, const std::vector<VmRange>& ranges);

    /// Whole pages; a hole reads as zeros and stays one. Error: systemError.
    [[nodiscard]] Result<void> read(PageNumber first, std::span<std::byte> into) const;
    [[nodiscard]] Result<void> write(PageNumber first, std::span<const std::byte> bytes) const;
    /// Unmaps and frees pages: holes from now on. Raises no userfaultfd event. Error: systemError.
    [[nodiscard]] Result<void> punch(PageNumber first, std::uint64_t count) const;
    /// Calls `found(first, count)` for each run of pages that are there, in order. Error: systemError.
    [[nodiscard]] Result<void> forEachPage(
        PageNumber first, std::uint64_t count,
        const std::function<void(PageNumber first, std::uint64_t count)>& found) const;

  private:
    struct Part {
        UniqueFd file;
        PageNumber first = 0;
        std::uint64_t pages = 0;
        std::uint64_t offset = 0;  ///< of the first page, in bytes
    };
    struct Place {
        int file;
        off_t offset;
    };
    [[nodiscard]] Result<Place> placeOf(PageNumber first, std::uint64_t count) const;

    std::vector<Part> parts_;
};

}  // namespace thermocline::memory
