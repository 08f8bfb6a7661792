// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// All domains with their figures. `common` must live as long as the parser.
void addListCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
