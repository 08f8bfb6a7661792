// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_file_tier.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <thread>

#include "cli/output.h"
#include "cli/progress.h"
#include "memory/status.h"

namespace thermocline::cli {
namespace {

/// Returns once nothing is in the file any more.
Expected<void> close(Client& client, const DomainFigures& domain) {
    if (const auto begun = client.closeFileTier(domain); !begun) return begun;
    while (true) {
        const auto now = client.refresh(domain);
        if (!now) return tl::unexpected<Failure>(now.error());
        // A domain that was detached, or ended, meanwhile has none any more.
        if (now->fileTier == memory::fileTierSwitchedOff || now->fileTier.empty()) return {};
        if (now->fileTier != memory::fileTierBeingEmptied)
            return fail(
                ExitCode::failure, "SystemError",
                fmt::format("the file tier of {} takes no more pages, but is not empty: {}; free memory of "
                            "the host, then try again",
                            now->name, now->fileTier));
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
}

Expected<ExitCode> run(const Common& common, const std::string& name, bool off) {
    auto target = findTarget(common, name);
    if (!target) return tl::unexpected<Failure>(target.error());
    if (off) {
        if (const auto closed = withProgress(common, *target, "emptying the file tier of", close); !closed)
            return tl::unexpected<Failure>(closed.error());
        const auto now = target->client.refresh(target->domain);
        if (!now) return tl::unexpected<Failure>(now.error());
        target->domain = *now;
    }
    if (common.json)
        printJson(toJson(target->domain));
    else
        fmt::print("{}: file tier {}\n", target->domain.name, fileTierText(target->domain));
    return ExitCode::ok;
}

}  // namespace

void addFileTierCommand(CLI::App& app, Common& common) {
    auto* const command = addCommand(
        app, common, "file-tier",
        "show what of an attached domain's memory is on a disk, encrypted, or bring it back and destroy the "
        "key",
        "  thermoctl file-tier web1            what is there, or why there is none\n"
        "  thermoctl file-tier web1 off        empties and closes it, until the domain is attached anew\n"
        "  thermoctl file-tier web1 --json | jq .frozen_bytes\n");
    const auto name = std::make_shared<std::string>();
    const auto off = std::make_shared<std::string>();
    addDomainArgument(command, *name)->required();
    command->add_option("off", *off, "off: bring everything back, then destroy the key and the file")
        ->check(CLI::IsMember({"off"}))
        ->option_text("[off]");
    command->callback([&common, name, off] {
        common.run = [&common, name, off] { return run(common, *name, !off->empty()); };
    });
}

}  // namespace thermocline::cli
