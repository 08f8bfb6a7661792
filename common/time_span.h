// SPDX-License-Identifier: Apache-2.0
#pragma once

// Spans of time as people write them. Plain functions; any thread.

#include <chrono>
#include <string>
#include <string_view>

#include "common/error.h"

namespace thermocline {

/// "90", "90s", "15m", "1h", "2d", "1w"; never nothing. Error: invalidArgument.
Result<std::chrono::seconds> parseSpan(std::string_view text);

/// 300 -> "5m": in the largest unit that leaves no fraction.
std::string formatSpan(std::chrono::seconds span);

}  // namespace thermocline
