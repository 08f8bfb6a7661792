// SPDX-License-Identifier: Apache-2.0
#include "memory/host_room.h"

#include "memory/process_map.h"

namespace thermocline::memory {

std::uint64_t hostAvailableBytes() {
    const auto text = readProcFile("/proc/meminfo");
    return text ? statusField(*text, "MemAvailable") : UINT64_MAX;
}

std::uint64_t hostShareBytes() {
    const auto text = readProcFile("/proc/meminfo");
    return text ? statusField(*text, "MemTotal") / 16 : hostReserveBytes;
}

}  // namespace thermocline::memory
