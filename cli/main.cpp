// SPDX-License-Identifier: Apache-2.0
// thermoctl: what people and scripts type. Each sub-command is in cmd_<name>.cpp.
#include <fmt/format.h>

#include <exception>

#include "cli/cmd_attach.h"
#include "cli/cmd_budget.h"
#include "cli/cmd_completion.h"
#include "cli/cmd_detach.h"
#include "cli/cmd_doctor.h"
#include "cli/cmd_file_tier.h"
#include "cli/cmd_freeze_paused.h"
#include "cli/cmd_heat.h"
#include "cli/cmd_history.h"
#include "cli/cmd_limit.h"
#include "cli/cmd_list.h"
#include "cli/cmd_plan.h"
#include "cli/cmd_priority.h"
#include "cli/cmd_proactive.h"
#include "cli/cmd_status.h"
#include "cli/cmd_top.h"
#include "cli/output.h"

namespace thermocline::cli {
namespace {

constexpr const char* footer = R"(
Exit codes:
  0  done                                3  thermoclined cannot be reached
  1  the daemon refused or failed        4  no such domain
  2  wrong usage                         5  not supported by this host or VM (see thermoctl doctor)

With --json, stdout has the result, or {"error": {"name": ..., "message": ...}}, and nothing else.
Colours are used on terminals only, and not with NO_COLOR set.

Examples:
  thermoctl doctor
  thermoctl attach web1
  thermoctl limit web1 2G
  thermoctl proactive web1
  thermoctl budget 75%
  thermoctl top
  thermoctl detach web1
)";

ExitCode run(int argc, char** argv) {
    CLI::App app{"Overcommits the memory of running libvirt domains, through thermoclined.", "thermoctl"};
    app.set_version_flag("--version", std::string("thermoctl ") + THERMOCLINE_VERSION);
    app.footer(footer);
    app.require_subcommand(1);
    Common common;
    addListCommand(app, common);
    addStatusCommand(app, common);
    addAttachCommand(app, common);
    addDetachCommand(app, common);
    addLimitCommand(app, common);
    addProactiveCommand(app, common);
    addFileTierCommand(app, common);
    addFreezePausedCommand(app, common);
    addPriorityCommand(app, common);
    addBudgetCommand(app, common);
    addPlanCommand(app, common);
    addHeatCommand(app, common);
    addHistoryCommand(app, common);
    addTopCommand(app, common);
    addDoctorCommand(app, common);
    addCompletionCommand(app, common);
    app.add_flag("--json", common.json, "print JSON (may also stand behind the command)");
    app.add_option("--bus", common.bus, "system, session, or a D-Bus address")->capture_default_str();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? ExitCode::ok : ExitCode::usage;
    }
    const auto done = common.run();
    if (done) return *done;
    printFailure(done.error(), common.json);
    return done.error().code;
}

}  // namespace
}  // namespace thermocline::cli

int main(int argc, char** argv) {
    try {
        return static_cast<int>(thermocline::cli::run(argc, argv));
    } catch (const std::exception& error) {
        fmt::print(stderr, "thermoctl: {}\n", error.what());
        return static_cast<int>(thermocline::cli::ExitCode::failure);
    }
}
