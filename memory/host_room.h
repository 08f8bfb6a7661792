// SPDX-License-Identifier: Apache-2.0
#pragma once

// How much of the host's memory bringing pages back may take. Any thread.

#include <cstdint>

namespace thermocline::memory {

/// What it leaves free in any case.
inline constexpr std::uint64_t hostReserveBytes = 64U << 20;

/// MemAvailable; everything where that cannot be told.
std::uint64_t hostAvailableBytes();
/// What it leaves free where nobody asked for it: a sixteenth of the host's memory.
std::uint64_t hostShareBytes();

}  // namespace thermocline::memory
