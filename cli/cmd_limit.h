// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// Sets or lifts the hard limit of an attached domain. `common` must live as long as the parser.
void addLimitCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
