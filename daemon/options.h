// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <variant>

#include "daemon/file_tier.h"
#include "daemon/metrics_address.h"
#include "daemon/policy_file.h"
#include "db/budget_store.h"

namespace thermocline {

/// How thermoclined ends; documented in --help.
enum class ExitCode : int {
    ok = 0,
    failure = 1,
    usage = 2,
    busUnavailable = 3,
    alreadyRunning = 4,
    database = 5,
    runtimeDirectory = 6,
};

struct Options {
    std::string bus = "system";
    std::string connect = "qemu:///system";
    std::filesystem::path stateDirectory = "/var/lib/thermocline";
    std::filesystem::path runtimeDirectory = "/run/thermocline";
    std::filesystem::path configDirectory = "/etc/thermocline/conf.d";
    std::filesystem::path manager;  ///< found beside our own executable or in libexec where not given
    FileTier fileTier;
    PolicyFile policy;
    db::HostBudget budget;
    std::optional<MetricsAddress> metrics;  ///< none: nothing listens
    std::string mechanism = "auto";         ///< or a name of memory/mechanism.h
    std::string logLevel = "info";
};

/// The command line of thermoclined, or the exit code where there is nothing (more) to
/// do: --help and --version were answered on stdout, a mistake was explained on stderr.
std::variant<Options, ExitCode> parseOptions(int argc, char** argv);

}  // namespace thermocline
