// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// Starts to manage a running domain's memory. `common` must live as long as the parser.
void addAttachCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
