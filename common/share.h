// SPDX-License-Identifier: Apache-2.0
#pragma once

// Shares of a whole as people write them. Plain functions; any thread.

#include <string>
#include <string_view>

#include "common/error.h"

namespace thermocline {

/// "0.5%", "0.5 %" or "0.005". Says only whether it is a number: what is in range is the manager's to say.
/// Error: invalidArgument.
Result<double> parseShare(std::string_view text);

/// 0.005 -> "0.5 %", with as many digits as it takes.
std::string formatShare(double share);

}  // namespace thermocline
