// SPDX-License-Identifier: Apache-2.0
#pragma once

// What an attach puts into the VM's process (memory/attachment.h), as a record that outlives the manager.

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/error.h"
#include "memory/mechanism.h"
#include "memory/page.h"

namespace thermocline::memory {

/// One agent thread for the fault path and one for background work: a long batch never keeps a fault waiting.
inline constexpr std::size_t laneCount = 2;

/// Everything of ours that is inside the VM's process; -1 and empty where there is none (yet).
struct Footprint {
    pid_t pid = 0;
    Mechanism mechanism = Mechanism::move;
    std::uint64_t startTime = 0;  ///< with the pid: this process and no other (processStartTime)
    int guestUffd = -1;           ///< guest RAM and staging area are registered with it
    int dropUffd = -1;            ///< the drop areas are; no events, so that dropping waits for nobody
    int controlFd = -1;           ///< memfd of the control pages
    std::vector<int> kept;        ///< what attach() was asked to keep open, in its order
    std::vector<int> passing;     ///< open only while it is being attached
    std::array<pid_t, laneCount> threads{};
    VmRange code;
    VmRange control;
    VmRange scratch;  ///< stacks and messages
    VmRange staging;  ///< whole reservation, see StagingArea
    std::vector<VmRange> guestRam;
    std::uint64_t pauseMicroseconds = 0;  ///< how long the main thread was stopped by the attach
};

void to_json(nlohmann::json& json, const Footprint& footprint);
void from_json(const nlohmann::json& json, Footprint& footprint);
/// From a file that has one as JSON. Errors: systemError where it is not there or damaged.
Result<Footprint> readFootprint(const std::string& path);

}  // namespace thermocline::memory
