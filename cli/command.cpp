// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"

#include <utility>

namespace thermocline::cli {

CLI::App* addCommand(CLI::App& app, Common& common, const std::string& name, const std::string& description,
                     const std::string& examples) {
    auto* const command = app.add_subcommand(name, description);
    command->add_flag("--json", common.json, "print JSON");
    command->add_option("--bus", common.bus, "system, session, or a D-Bus address")->capture_default_str();
    command->footer("\nExamples:\n" + examples);
    return command;
}

CLI::Option* addDomainArgument(CLI::App* command, std::string& value) {
    return command->add_option("DOMAIN", value, "name or UUID of a libvirt domain");
}

Expected<Target> findTarget(const Common& common, const std::string& domain) {
    auto client = Client::connect(common.bus);
    if (!client) return tl::unexpected<Failure>(client.error());
    auto found = client->domain(domain);
    if (!found) return tl::unexpected<Failure>(found.error());
    return Target{std::move(*client), std::move(*found)};
}

}  // namespace thermocline::cli
