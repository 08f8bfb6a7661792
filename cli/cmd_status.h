// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// One domain in full, or the daemon. `common` must live as long as the parser.
void addStatusCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
