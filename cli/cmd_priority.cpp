// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_priority.h"

#include <fmt/format.h>

#include <memory>

#include "cli/output.h"

namespace thermocline::cli {
namespace {

struct Arguments {
    std::string domain;
    std::uint32_t priority = 0;
};

Expected<ExitCode> set(const Common& common, const Arguments& arguments) {
    auto target = findTarget(common, arguments.domain);
    if (!target) return tl::unexpected<Failure>(target.error());
    if (const auto done = target->client.setPriority(target->domain, arguments.priority); !done)
        return tl::unexpected<Failure>(done.error());
    const auto now = target->client.refresh(target->domain);
    if (!now) return tl::unexpected<Failure>(now.error());
    if (common.json)
        printJson(toJson(*now));
    else
        fmt::print("{}: priority {}\n", now->name, now->priority);
    return ExitCode::ok;
}

}  // namespace

void addPriorityCommand(CLI::App& app, Common& common) {
    auto* const command = addCommand(
        app, common, "priority",
        "say how much of the host's budget a managed domain gets beside the others, where that is short",
        "  thermoctl priority web1 200   twice what a domain with 100 gets, which all have at first\n");
    const auto arguments = std::make_shared<Arguments>();
    addDomainArgument(command, arguments->domain)->required();
    command->add_option("PRIORITY", arguments->priority, "from 1 to 1000")->required();
    command->callback(
        [&common, arguments] { common.run = [&common, arguments] { return set(common, *arguments); }; });
}

}  // namespace thermocline::cli
