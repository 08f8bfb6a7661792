// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_list.h"

#include <fmt/format.h>

#include <memory>

#include "cli/output.h"

namespace thermocline::cli {

void addListCommand(CLI::App& app, Common& common) {
    auto* const command =
        addCommand(app, common, "list", "list all domains and what their memory does",
                   "  thermoctl list\n"
                   "  thermoctl list --json | jq '.[] | select(.state == \"attached\") | .name'\n"
                   "  thermoctl list --names\n");
    const auto namesOnly = std::make_shared<bool>(false);
    command->add_flag("--names", *namesOnly, "print names only, one per line");
    command->callback([&common, namesOnly] {
        common.run = [&common, namesOnly]() -> Expected<ExitCode> {
            auto client = Client::connect(common.bus);
            if (!client) return tl::unexpected<Failure>(client.error());
            const auto domains = client->domains();
            if (!domains) return tl::unexpected<Failure>(domains.error());
            if (common.json) {
                printJson(toJson(*domains));
            } else if (*namesOnly) {
                for (const auto& domain : *domains)
                    fmt::print("{}\n", domain.name);
            } else {
                fmt::print("{}", domainTable(*domains, Style::of(stdout)));
            }
            return ExitCode::ok;
        };
    });
}

}  // namespace thermocline::cli
