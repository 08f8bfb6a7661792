// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_detach.h"

#include <fmt/format.h>

#include <memory>

#include "cli/output.h"
#include "cli/progress.h"

namespace thermocline::cli {

void addDetachCommand(CLI::App& app, Common& common) {
    auto* const command =
        addCommand(app, common, "detach",
                   "bring all of a domain's memory back, leave its process as it was, and forget its policy "
                   "and limit",
                   "  thermoctl detach web1\n");
    const auto name = std::make_shared<std::string>();
    addDomainArgument(command, *name)->required();
    command->callback([&common, name] {
        common.run = [&common, name]() -> Expected<ExitCode> {
            auto target = findTarget(common, *name);
            if (!target) return tl::unexpected<Failure>(target.error());
            const auto detached = withProgress(
                common, *target, "detaching",
                [](Client& client, const DomainFigures& domain) { return client.detach(domain); });
            if (!detached) return tl::unexpected<Failure>(detached.error());
            if (!common.json) {
                fmt::print("{}: detached\n", target->domain.name);
                return ExitCode::ok;
            }
            // A transient domain may be gone by now; it is detached all the same.
            if (const auto now = target->client.refresh(target->domain)) target->domain = *now;
            printJson(toJson(target->domain));
            return ExitCode::ok;
        };
    });
}

}  // namespace thermocline::cli
