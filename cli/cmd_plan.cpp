// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_plan.h"

#include <fmt/format.h>

#include <memory>

#include "cli/output.h"
#include "common/byte_size.h"

namespace thermocline::cli {
namespace {

struct Arguments {
    std::string budget;
    std::string keepFree = "0";
};

std::string allotmentText(std::uint64_t bytes) {
    return bytes == 0 ? "not bound" : formatByteSize(bytes);
}

Expected<ExitCode> show(const Common& common, const Arguments& arguments) {
    const auto keepFree = parseByteSize(arguments.keepFree);
    if (!keepFree) return fail(ExitCode::usage, "InvalidArgument", keepFree.error().message);
    auto client = Client::connect(common.bus);
    if (!client) return tl::unexpected<Failure>(client.error());
    const auto plan = client->plan(arguments.budget, *keepFree);
    if (!plan) return tl::unexpected<Failure>(plan.error());
    if (common.json) {
        printJson(toJson(*plan));
        return ExitCode::ok;
    }
    fmt::print("{}.\n{} to give out; attached domains use {} and need {}.\n", plan->note,
               formatByteSize(plan->available), formatByteSize(plan->used), formatByteSize(plan->need));
    if (plan->vms.empty()) {
        fmt::print("No domain is attached.\n");
        return ExitCode::ok;
    }
    Table table({{"NAME"},
                 {"PRIORITY", true},
                 {"FLOOR", true},
                 {"NEED", true},
                 {"USED", true},
                 {"NOW", true},
                 {"THEN", true},
                 {"WHY"}});
    for (const auto& vm : plan->vms)
        table.add({vm.name,
                   std::to_string(vm.priority),
                   formatByteSize(vm.floor),
                   formatByteSize(vm.need),
                   formatByteSize(vm.used),
                   allotmentText(vm.before),
                   {allotmentText(vm.after), vm.after == vm.before ? Colour::none : Colour::warning},
                   vm.reason});
    fmt::print("\n{}", table.render(Style::of(stdout)));
    return ExitCode::ok;
}

}  // namespace

void addPlanCommand(CLI::App& app, Common& common) {
    auto* const command = addCommand(
        app, common, "plan", "tell what the host's budget, or another one, would do now and why; do nothing",
        "  thermoctl plan                                the budget in force\n"
        "  thermoctl plan --budget 60% --keep-free 2G    another one\n"
        "  thermoctl plan --json | jq '.vms[] | {name, after_bytes, reason}'\n");
    const auto arguments = std::make_shared<Arguments>();
    auto* const budget =
        command->add_option("--budget", arguments->budget, "a size, or a share of the host's RAM");
    command
        ->add_option("--keep-free", arguments->keepFree, "a size: what stays available, whatever the budget")
        ->capture_default_str()
        ->needs(budget);
    command->callback(
        [&common, arguments] { common.run = [&common, arguments] { return show(common, *arguments); }; });
}

}  // namespace thermocline::cli
