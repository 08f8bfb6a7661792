// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "common/error.h"

namespace thermocline {

/// Sends the program's log (spdlog's default logger) to the journal where its socket exists
/// and to stderr, with times, where it does not or where stderr is a terminal. `level`:
/// trace, debug, info, warn, error. Call once, at start; logging itself is thread-safe.
Result<void> setUpLogging(const std::string& level);

}  // namespace thermocline
