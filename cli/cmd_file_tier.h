// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// Has cold memory looked for without a limit, or no more. `common` must live as long as the parser.
void addFileTierCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
