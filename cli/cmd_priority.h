// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// Draws where an attached domain's memory is hot. `common` must live as long as the parser.
void addPriorityCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
