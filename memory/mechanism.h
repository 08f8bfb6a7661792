// SPDX-License-Identifier: Apache-2.0
#pragma once

// The ways in which pages leave guest RAM for the staging area and come back. All that differs between them
// is in pager_copying.cpp and pager_unmapping.cpp; page states, policies and tiers are the same.

#include <cstdint>
#include <optional>
#include <string_view>

#include "common/error.h"
#include "memory/userfault.h"

namespace thermocline::memory {

class StagingArea;

enum class Mechanism {
    move,   ///< UFFDIO_MOVE (Linux 6.8): without copying; pages that are pinned for DMA stay where they are
    copy,   ///< write-protect, copy, MADV_DONTNEED: for older kernels; a DMA in flight would be lost, so only
            ///< where no disk is opened with O_DIRECT
    unmap,  ///< for shared memory, whose pages stay in their file (a memfd) when they are unmapped; a DMA in
            ///< flight would be lost, as above
};

/// "move", "copy", "unmap": as in status and on the command line.
std::string_view mechanismName(Mechanism mechanism);
std::optional<Mechanism> mechanismFromName(std::string_view name);

/// Features that the guest's userfaultfd needs (UFFDIO_API).
std::uint64_t guestFeatures(Mechanism mechanism);
/// UFFDIO_REGISTER_MODE_... for guest RAM.
std::uint64_t guestRegisterModes(Mechanism mechanism);
/// Enables both userfaultfds of an attachment and registers what of the staging area is to be. Error:
/// notSupported, naming the kernel that is needed.
Result<void> prepareUserfaults(Mechanism mechanism, Userfault& guest, Userfault& drop,
                               const StagingArea& area);

}  // namespace thermocline::memory
