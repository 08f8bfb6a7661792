// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// Gives a domain its memory back and leaves it alone. `common` must live as long as the parser.
void addDetachCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
