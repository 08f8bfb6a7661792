// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// A completion script for a shell. `common` must live as long as the parser.
void addCompletionCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
