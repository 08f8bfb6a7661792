// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// Says after what time a paused domain's memory goes. `common` must live as long as the parser.
void addFreezePausedCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
