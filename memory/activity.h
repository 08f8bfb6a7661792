// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a VM is doing, as far as its memory is concerned. Plain data, no threads.

#include <array>
#include <optional>
#include <string_view>

namespace thermocline::memory {

enum class Activity {
    running,
    copiedOut,  ///< somebody reads all of its memory from end to end: migration out, save, dump
    paused,     ///< its guest will not run for a while: what it has in memory need not be there
};

/// As in the status and on D-Bus, by value.
inline constexpr std::array<std::string_view, 3> activityNames{"running", "copied-out", "paused"};

constexpr std::string_view activityName(Activity activity) {
    return activityNames[static_cast<std::size_t>(activity)];
}

constexpr std::optional<Activity> activityFromName(std::string_view name) {
    for (std::size_t i = 0; i < activityNames.size(); ++i)
        if (activityNames[i] == name) return static_cast<Activity>(i);
    return std::nullopt;
}

}  // namespace thermocline::memory
