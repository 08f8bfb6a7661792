// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_budget.h"

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

Expected<ExitCode> run(const Common& common, const Arguments& arguments) {
    const auto keepFree = parseByteSize(arguments.keepFree);
    if (!keepFree) return fail(ExitCode::usage, "InvalidArgument", keepFree.error().message);
    auto client = Client::connect(common.bus);
    if (!client) return tl::unexpected<Failure>(client.error());
    if (!arguments.budget.empty()) {
        const auto set =
            client->setBudget(arguments.budget == "default" ? std::string() : arguments.budget, *keepFree);
        if (!set) return tl::unexpected<Failure>(set.error());
    }
    const auto manager = client->manager();
    if (!manager) return tl::unexpected<Failure>(manager.error());
    if (common.json)
        printJson({{"budget", manager->budget},
                   {"keep_free_bytes", manager->keepFreeBytes},
                   {"note", manager->budgetNote}});
    else
        fmt::print("budget {}\n", budgetText(*manager));
    return ExitCode::ok;
}

}  // namespace

void addBudgetCommand(CLI::App& app, Common& common) {
    auto* const command = addCommand(
        app, common, "budget", "show or set what all attached domains may take of the host's memory together",
        "  thermoctl budget                        the one in force\n"
        "  thermoctl budget 75% --keep-free 2G     of the host's RAM; 2 GiB stay available in any case\n"
        "  thermoctl budget 24G\n"
        "  thermoctl budget off                    nobody is bound\n"
        "  thermoctl budget default                what thermoclined was started with\n");
    const auto arguments = std::make_shared<Arguments>();
    auto* const budget = command->add_option("BUDGET", arguments->budget, "a size, a share, off or default");
    command
        ->add_option("--keep-free", arguments->keepFree, "a size: what stays available, whatever the budget")
        ->capture_default_str()
        ->needs(budget);
    command->callback(
        [&common, arguments] { common.run = [&common, arguments] { return run(common, *arguments); }; });
}

}  // namespace thermocline::cli
