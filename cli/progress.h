// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "cli/client.h"
#include "cli/command.h"

namespace thermocline::cli {

/// Makes a call that may take long, on a connection of its own, and on a terminal shows meanwhile
/// in one line, several times a second, what happens to the domain. Nothing is shown with --json
/// or when stdout is no terminal. The call runs in a second thread; returns when it returned.
Expected<void> withProgress(const Common& common, Target& target, const std::string& what,
                            const std::function<Expected<void>(Client&, const DomainFigures&)>& call);

}  // namespace thermocline::cli
