// SPDX-License-Identifier: Apache-2.0
#include "daemon/options.h"

#include <unistd.h>

#include <CLI/CLI.hpp>

#include "common/byte_size.h"
#include "daemon/host_budget.h"

namespace thermocline {
namespace {

constexpr const char* footer = R"(
Runs in the foreground. SIGTERM or SIGINT ends it within a second; VMs that are attached stay attached, each with a
manager process of its own, and are found again by the next thermoclined. (Under systemd: KillMode=process.)
SIGHUP reads the rules for new domains again; where they are wrong the former ones stay, and the log says why.

Exit codes:
  0  ended by a signal      4  another thermoclined runs (bus name or run-time directory is taken)
  1  unexpected failure     5  the database cannot be used; nothing was changed
  2  wrong usage            6  the run-time directory cannot be used
  3  no bus, or not allowed to own the name org.thermocline1

Examples:
  thermoclined
  thermoclined --log-level debug
  thermoclined --file-tier-dir /var/lib/thermocline/frozen --file-tier-max 64G --file-tier-per-day 20G
  thermoclined --policy /usr/lib/thermocline/policies/window.so --policy-option window=120
  thermoclined --budget 75% --keep-free 2G
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

/// A size as people write it, of what a file tier may do: less than this is no use to it.
CLI::Option* addFileTierSize(CLI::App& app, const std::string& name, std::optional<std::uint64_t>& bytes,
                             const std::string& description) {
    constexpr std::uint64_t least = 1U << 20;
    const auto parse = [name, &bytes](const std::string& text) {
        const auto size = parseByteSize(text);
        if (!size) throw CLI::ValidationError(name, size.error().message);
        if (*size < least)
            throw CLI::ValidationError(name, text + " is too little for a VM's file tier; give it " +
                                                 formatByteSize(least) + " or more");
        bytes = *size;
    };
    return app.add_option_function<std::string>(name, parse, description)->type_name("SIZE");
}

void addFileTierOptions(CLI::App& app, FileTier& tier) {
    auto* const directory = app.add_option(
        "--file-tier-dir", tier.directory,
        "directory on a disk where VMs that are attached from now on keep what is cold for long, "
        "encrypted (default: none do)");
    addFileTierSize(app, "--file-tier-max", tier.maxBytes,
                    "disk space that each VM may take there (default: as much as it has RAM)")
        ->needs(directory);
    addFileTierSize(app, "--file-tier-per-day", tier.maxBytesPerDay,
                    "what each VM may write there in any 24 hours (default: no bound)")
        ->needs(directory);
    app.add_option("--file-tier-age", tier.ageSeconds,
                   "seconds without use after which memory goes there (default: 10)")
        ->check(CLI::Range(0.0, 86400.0))
        ->needs(directory);
}

void addPolicyOptions(CLI::App& app, PolicyFile& policy) {
    const auto keyAndValue = [](const std::string& text) {
        const auto equals = text.find('=');
        return equals == 0 || equals == std::string::npos ? text + " is not KEY=VALUE" : std::string();
    };
    auto* const file =
        app.add_option("--policy", policy.file,
                       "shared object that decides which memory of VMs that are attached from now on goes "
                       "first (default: the built-in policy does)");
    app.add_option("--policy-option", policy.options, "for that policy; may be given several times")
        ->type_name("KEY=VALUE")
        ->check(CLI::Validator(keyAndValue, ""))
        ->allow_extra_args(false)
        ->needs(file);
    app.add_option("--policy-dir", policy.directory,
                   "where policies have to be (default: /usr/lib/thermocline/policies)")
        ->needs(file);
}

void addMetricsOption(CLI::App& app, std::optional<MetricsAddress>& address) {
    const auto take = [&address](const std::string& text) {
        const auto parsed = parseMetricsAddress(text);
        if (!parsed) throw CLI::ValidationError("--metrics", parsed.error().message);
        address = *parsed;
    };
    app.add_option_function<std::string>("--metrics", take,
                                         "serve metrics to Prometheus at this port of the loopback, or at "
                                         "ADDRESS:PORT (docs/metrics.md; default: "
                                         "nothing listens)")
        ->type_name("[ADDRESS:]PORT");
}

void addBudgetOptions(CLI::App& app, db::HostBudget& budget) {
    const auto take = [&budget](const std::string& text) {
        const auto parsed = parseHostBudget(text, budget.keepFree);
        if (!parsed) throw CLI::ValidationError("--budget", parsed.error().message);
        budget = *parsed;
    };
    auto* const option =
        app.add_option_function<std::string>(
               "--budget", take,
               "what all attached VMs may take together: a size, or a share of the host's RAM (default: "
               "off); "
               "thermoctl budget sets another one while the daemon runs, and that is remembered")
            ->type_name("SIZE|SHARE");
    const auto keep = [&budget](const std::string& text) {
        const auto size = parseByteSize(text);
        if (!size) throw CLI::ValidationError("--keep-free", size.error().message);
        budget.keepFree = *size;
    };
    app.add_option_function<std::string>(
           "--keep-free", keep,
           "how much of the host's memory is to stay available, whatever the budget (default: 0)")
        ->type_name("SIZE")
        ->needs(option);
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
    app.add_option("--config-dir", options.configDirectory,
                   "where the rules for new domains are, *.toml (docs/virsh.md)")
        ->capture_default_str();
    app.add_option("--manager", options.manager,
                   "path of thermocline-manager (default: beside this, else libexec)")
        ->check(CLI::ExistingFile);
    addFileTierOptions(app, options.fileTier);
    addPolicyOptions(app, options.policy);
    addBudgetOptions(app, options.budget);
    addMetricsOption(app, options.metrics);
    app.add_option(
           "--mechanism", options.mechanism,
           "how pages are taken out of the RAM of VMs that are attached from now on: auto is the best that "
           "works here, for private memory; unmap is the same, and takes VMs with shared memory, too: only "
           "where "
           "no vhost-user or virtiofs device is ever plugged into one of those")
        ->check(CLI::IsMember({"auto", "move", "copy", "unmap"}))
        ->capture_default_str();
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
