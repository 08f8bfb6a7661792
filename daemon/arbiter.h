// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "daemon/host_memory.h"
#include "db/budget_store.h"

namespace thermocline {

// How the memory that all managed VMs of a host may take together is split over them. Plain functions of
// their arguments; any thread. Sizes in bytes. What a VM takes is its `used`, as for a limit
// (memory/status.h).

/// One VM that is to have its part.
struct ArbiterVm {
    std::string uuid;
    std::uint32_t priority = 100;  ///< 1 to 1000: what is short is given out in this proportion
    std::uint64_t ram = 0;
    std::uint64_t floor = 0;      ///< it is never given less
    std::uint64_t need = 0;       ///< measured (daemon/memory_need.h)
    std::uint64_t used = 0;       ///< now
    std::uint64_t ceiling = 0;    ///< its own limit, or libvirt's hard limit: it never gets more; 0 = none
    std::uint64_t allotment = 0;  ///< what it was given last; 0 = not bound
    std::string storeNote{};      ///< why taking more of it saves nothing (MemoryNeed); else empty
};

struct Allotment {
    std::string uuid;
    std::uint64_t bytes = 0;  ///< what it may take; 0 = not bound: its own limit is all that holds
    std::string reason;       ///< for a person
    bool operator==(const Allotment&) const = default;
};

/// Who gets what, and why.
struct Division {
    std::uint64_t budget = 0;       ///< what there is to give out now
    std::uint64_t used = 0;         ///< by all
    std::uint64_t need = 0;         ///< of all, each within its floor and its ceiling
    std::string note;               ///< how the budget came about, and what does not work out
    std::vector<ArbiterVm> inputs;  ///< what it was made from
    std::vector<Allotment> vms;     ///< in their order
};

inline constexpr std::uint32_t lowestPriority = 1;
inline constexpr std::uint32_t defaultPriority = 100;
inline constexpr std::uint32_t highestPriority = 1000;
/// A whole number within these. invalidArgument.
Result<std::uint32_t> parsePriority(std::string_view text);

/// `pressureCut` is taken off the budget for a while (PressureRelief). REQUIRES: budget.on().
///
/// Each VM gets its floor. What is left goes, in proportion to priorities, to what VMs need beyond that
/// (weighted max-min fairness: nobody gets more than the need while another has less than its share); then
/// likewise to what they have beyond their needs, so that nothing is evicted for room that nobody uses; then
/// to what they may have. Changes by less than 1/64 of a VM's RAM are not made unless the budget wants them,
/// so that limits do not move with every breath.
Division divide(const db::HostBudget& budget, const HostMemory& host, const std::vector<ArbiterVm>& vms,
                std::uint64_t pressureCut = 0);

}  // namespace thermocline
