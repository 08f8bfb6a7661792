// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace thermocline {

/// Where managers put what is cold for long, encrypted. The bounds are those of each VM; what is
/// not given is the manager's to choose (thermocline-manager run --help). Plain data, no threads.
struct FileTier {
    std::filesystem::path directory;  ///< on a disk; empty: there is no file tier
    std::optional<std::uint64_t> maxBytes;
    std::optional<std::uint64_t> maxBytesPerDay;
    std::optional<double> ageSeconds;
};

}  // namespace thermocline
