// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// Like list, refreshed. `common` must live as long as the parser.
void addTopCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
