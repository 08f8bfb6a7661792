// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// What a domain's memory did. `common` must live as long as the parser.
void addHistoryCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
