// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "cli/client.h"
#include "cli/failure.h"

namespace thermocline::cli {

/// What all sub-commands share. Each lives in its own pair of files, cmd_<name>, whose one function
/// registers it with the parser; the command that was given on the command line leaves its work in `run`.
struct Common {
    std::string bus = "system";
    bool json = false;
    std::function<Expected<ExitCode>()> run;
};

/// A sub-command with --json and --bus, and examples below its help.
CLI::App* addCommand(CLI::App& app, Common& common, const std::string& name, const std::string& description,
                     const std::string& examples);
/// The argument DOMAIN. `value` must live as long as the parser.
CLI::Option* addDomainArgument(CLI::App* command, std::string& value);

/// Connects and finds the domain.
struct Target {
    Client client;
    DomainFigures domain;
};
Expected<Target> findTarget(const Common& common, const std::string& domain);

}  // namespace thermocline::cli
