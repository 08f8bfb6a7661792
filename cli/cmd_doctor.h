// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace thermocline::cli {

/// Whether this host and each domain can be overcommitted, and
/// how to get there. `common` must live as long as the parser.
void addDoctorCommand(CLI::App& app, Common& common);

}  // namespace thermocline::cli
