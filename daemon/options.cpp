// SPDX-License-Identifier: Apache-2.0
#include "daemon/options.h"

#include <unistd.h>

#include <CLI/CLI.hpp>

namespace thermocline {
namespace {

constexpr const char* footer = R"(
Runs in the foreground. SIGTERM or SIGINT ends it within a second; VMs that are attached stay attached, each with a
manager process of its own, and are found again by the next thermoclined. (Under systemd: KillMode=process.)

Exit codes:
  0  ended by a signal      4  another thermoclined runs (bus name or run-time directory is taken)
  1  unexpected failure     5  the database cannot be used; nothing was changed
  2  wrong usage            6  the run-time directory cannot be used
  3  no bus, or not allowed to own the name org.thermocline1

Examples:
  thermoclined
  thermoclined --log-level debug
  thermoclined --bus session --connect test:///default --state-dir /tmp/tc --runtime-dir /dev/shm/tc
  DBUS_SYSTEM_BUS_ADDRESS=unix:path=/tmp/bus thermoclined
)";

std::filesystem::path findManager() {
    std::error_code error;
    const auto own = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
    // The build tree has both in one folder; an installation has <prefix>/sbin and <prefix>/libexec.
    for (const auto& candidate :
         {own / "thermocline-manager", own.parent_path() / "libexec" / "thermocline-manager",
          own.parent_path() / "libexec" / "thermocline" / "thermocline-manager"})
        if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    return std::filesystem::path(THERMOCLINE_LIBEXECDIR) / "thermocline-manager";
}

}  // namespace

std::variant<Options, ExitCode> parseOptions(int argc, char** argv) {
    Options options;
    CLI::App app{
        "The Thermocline daemon: follows libvirt's domains and overcommits the memory of those it was told "
        "to.",
        "thermoclined"};
    app.set_version_flag("--version", std::string("thermoclined ") + THERMOCLINE_VERSION);
    app.footer(footer);
    app.add_option("--bus", options.bus, "system, session, or a D-Bus address")->capture_default_str();
    app.add_option("--connect", options.connect, "libvirt connection URI")->capture_default_str();
    app.add_option("--state-dir", options.stateDirectory, "where the database is kept (made if missing)")
        ->capture_default_str();
    app.add_option("--runtime-dir", options.runtimeDirectory, "where compressed pages are kept, in memory")
        ->capture_default_str();
    app.add_option("--manager", options.manager,
                   "path of thermocline-manager (default: beside this, else libexec)")
        ->check(CLI::ExistingFile);
    app.add_option("--log-level", options.logLevel, "least important level that is logged")
        ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
        ->capture_default_str();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? ExitCode::ok : ExitCode::usage;
    }
    if (options.manager.empty()) options.manager = findManager();
    return options;
}

}  // namespace thermocline
