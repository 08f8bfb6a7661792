// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string_view>
#include <vector>

#include "cli/client.h"
#include "common/error.h"

namespace thermocline::cli {

/// "90" or "90s", "15m", "1h", "2d", "1w": a positive whole
/// number and a unit (seconds where none). invalidArgument.
Result<std::chrono::seconds> parseSpan(std::string_view text);

/// Merges neighbours so that at most `rows` samples remain, each of the same
/// span of time: levels averaged by time, counters summed, the highest stall
/// kept. Samples come oldest first, and so does the result. rows = 0: unchanged.
std::vector<HistorySample> condense(const std::vector<HistorySample>& samples, std::size_t rows);

}  // namespace thermocline::cli
