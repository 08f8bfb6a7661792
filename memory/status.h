// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one managed VM's memory looks like, for people and programs. Plain data, no threads.

#include <sys/types.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace thermocline::memory {

/// What Status::fileTier says for programs, besides reasons for people.
inline constexpr std::string_view fileTierOpen = "open";
inline constexpr std::string_view fileTierBeingEmptied = "being emptied";
inline constexpr std::string_view fileTierSwitchedOff = "switched off";
/// What Status::policy says where no other policy is in charge.
inline constexpr const char* builtInPolicyName = "clock";

/// State and figures of one attached VM. Sizes in bytes; counters run from the attach on.
struct Status {
    pid_t pid = 0;                    ///< the VM's process
    std::string state = "attaching";  ///< attaching, attached, detaching, detached, gone
    std::string activity;             ///< activityName(): what the VM does, as far as the manager was told
    std::string mechanism;            ///< mechanismName()
    std::uint64_t memoryBytes = 0;    ///< guest RAM under management
    std::uint64_t residentBytes = 0;  ///< in the guest's RAM now
    std::uint64_t stagedBytes = 0;    ///< moved aside, not yet compressed (still in memory)
    std::uint64_t coldBytes = 0;      ///< guest bytes that live compressed in the store
    std::uint64_t frozenBytes = 0;    ///< guest bytes that live in the file tier, encrypted
    std::uint64_t fileBytes = 0;      ///< disk space that the file tier takes for them
    std::string fileTier;             ///< "open", or why it takes no (more) pages; empty where none is wanted
    std::uint64_t storeBytes = 0;     ///< memory that the store takes for them
    std::uint64_t metadataBytes = 0;  ///< page map and store index
    std::uint64_t usedBytes = 0;      ///< all of these, and copies about to be dropped: what the limit bounds
    std::uint64_t limitBytes = 0;     ///< hard limit; 0 = none
    bool limitMet = true;             ///< false while used is above the limit
    std::string limitNote;            ///< why it is not met, for a person; empty otherwise
    std::uint64_t faults = 0;         ///< page faults served, all kinds
    std::uint64_t stagedFaults = 0;   ///< ... on staged pages
    std::uint64_t coldFaults = 0;     ///< ... on cold pages
    std::uint64_t frozenFaults = 0;   ///< ... on frozen pages
    std::uint64_t zeroFaults = 0;     ///< ... on pages never touched or given back by the guest
    std::uint64_t lostPages = 0;      ///< times that a page could not be had; who needs it waits
    std::string lostNote;             ///< why, of the first one; empty where there is none
    std::uint64_t evictedPages = 0;   ///< 4 KiB pages made cold
    std::uint64_t stallNanoseconds = 0;  ///< time in which at least one fault was being served
    std::uint64_t prefetchedPages = 0;   ///< 4 KiB pages brought back unasked, with a fault nearby
    double proactiveMaxStall = 0;  ///< the proactive policy's stall, a share of time; 0 = no such policy
    std::uint64_t minResidentBytes = 0;  ///< what that policy leaves in memory, however cold
    std::string policy;                  ///< who decides which memory goes first
    std::string policyNote;              ///< why that is not the policy that was asked for; empty otherwise
    double stallRatio = 0;               ///< the same as a share of wall time over the last second
    std::uint64_t attachPauseMicroseconds = 0;  ///< how long the attach stopped a thread of the VM
    std::uint64_t managerRssBytes = 0;          ///< private memory of the manager process itself
};

void to_json(nlohmann::json& json, const Status& status);
void from_json(const nlohmann::json& json, Status& status);

}  // namespace thermocline::memory
