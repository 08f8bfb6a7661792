// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace thermocline {

/// The lowest hard limit, in bytes, that a guest of so much RAM may get. Any thread.
constexpr std::uint64_t lowestLimit(std::uint64_t ramBytes) {
    constexpr std::uint64_t least = 16ULL << 20;
    constexpr std::uint64_t divisor = 16;
    return std::max(least, ramBytes / divisor);
}

}  // namespace thermocline
