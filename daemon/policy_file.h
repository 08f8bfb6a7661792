// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace thermocline {

/// The third-party policy that managers load (docs/writing-a-policy.md); they say where it cannot be
/// used. Plain data, no threads.
struct PolicyFile {
    std::filesystem::path file;        ///< empty: the built-in policy alone
    std::vector<std::string> options;  ///< KEY=VALUE
    std::filesystem::path directory;   ///< where policies have to be; empty: where the manager has them
};

}  // namespace thermocline
