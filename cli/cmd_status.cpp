// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_status.h"

#include <fmt/format.h>

#include <memory>

#include "cli/output.h"
#include "common/byte_size.h"

namespace thermocline::cli {
namespace {

void line(std::string_view label, const std::string& value) {
    fmt::print("{:<16} {}\n", label, value);
}

void printDomain(const DomainFigures& domain) {
    const auto style = Style::of(stdout);
    line("Domain", style.paint(domain.name, Colour::bold));
    line("UUID", domain.uuid);
    line("State", fmt::format("{}{}", style.paint(domain.state, stateColour(domain.state)),
                              domain.running ? fmt::format(", process {}", domain.pid) : ", not running"));
    if (domain.activity == "copied-out")
        line("", "all of its memory is being read (migration, save or dump); nothing is taken meanwhile");
    if (domain.activity == "paused") line("", "it is paused, and all of its memory goes");
    if (!domain.stateNote.empty()) line("Note", style.paint(domain.stateNote, Colour::warning));
    line("Managed", domain.managed ? "yes: attached whenever it runs" : "no");
    if (!domain.settingsNote.empty())
        line("Settings note", style.paint(domain.settingsNote, Colour::warning));
    line("Memory", formatByteSize(domain.memoryBytes));
    line("Limit", domain.limitBytes == 0 ? "none" : formatByteSize(domain.limitBytes));
    line("Proactive", proactiveText(domain));
    if (domain.freezePausedSeconds != 0) line("Freeze paused", freezePausedText(domain));
    line("Priority", std::to_string(domain.priority));
    if (domain.allotmentBytes != 0)
        line("Budget leaves",
             fmt::format("{}: {}", formatByteSize(domain.allotmentBytes), domain.allotmentNote));
    if (!domain.attached()) {
        line("Supported", domain.supported
                              ? style.paint("yes", Colour::good) + fmt::format(", by {}", domain.mechanism)
                              : style.paint("no", Colour::bad) + fmt::format(": {}", domain.supportReason));
        if (!domain.supportFix.empty()) line("Fix", domain.supportFix);
        return;
    }
    line("Used", fmt::format("{}{}", formatByteSize(domain.usedBytes),
                             domain.limitMet ? "" : style.paint("  above the limit", Colour::warning)));
    if (!domain.limitNote.empty()) line("Limit note", domain.limitNote);
    line("  resident", formatByteSize(domain.residentBytes));
    line("  staged", formatByteSize(domain.stagedBytes));
    line("  store", fmt::format("{}, holding {} of guest memory", formatByteSize(domain.storeBytes),
                                formatByteSize(domain.coldBytes)));
    line("  metadata", formatByteSize(domain.metadataBytes));
    if (!domain.policy.empty()) line("Policy", domain.policy);
    if (!domain.policyNote.empty()) line("Policy note", domain.policyNote);
    if (!domain.fileTier.empty()) line("File tier", fileTierText(domain));
    line("Saved", style.paint(formatByteSize(domain.savedBytes()), Colour::good));
    line("Faults",
         fmt::format("{} ({} staged, {} cold, {} frozen, {} zero)", domain.faults, domain.stagedFaults,
                     domain.coldFaults, domain.frozenFaults, domain.zeroFaults));
    line("Evicted", fmt::format("{} pages", domain.evictedPages));
    line("Prefetched", fmt::format("{} pages", domain.prefetchedPages));
    line("Stall", fmt::format("{} now, {} since the attach", percent(domain.stallRatio),
                              duration(domain.stallNanoseconds)));
    line("Attach pause", fmt::format("{} us", domain.attachPauseMicroseconds));
    line("Manager", fmt::format("{}, by {}", formatByteSize(domain.managerRssBytes), domain.mechanism));
}

Expected<ExitCode> showDaemon(const Common& common) {
    auto client = Client::connect(common.bus);
    if (!client) return tl::unexpected<Failure>(client.error());
    const auto manager = client->manager();
    if (!manager) return tl::unexpected<Failure>(manager.error());
    const auto domains = client->domains();
    if (!domains) return tl::unexpected<Failure>(domains.error());
    std::uint64_t memory = 0;
    std::uint64_t used = 0;
    std::uint64_t saved = 0;
    std::size_t attached = 0;
    for (const auto& domain : *domains) {
        if (!domain.attached()) continue;
        ++attached;
        memory += domain.memoryBytes;
        used += domain.usedBytes;
        saved += domain.savedBytes();
    }
    if (common.json) {
        printJson({{"version", manager->version},
                   {"hypervisor_state", manager->hypervisorState},
                   {"hypervisor_uri", manager->hypervisorUri},
                   {"hypervisor_detail", manager->hypervisorDetail},
                   {"configuration_note", manager->configurationNote},
                   {"budget", manager->budget},
                   {"budget_note", manager->budgetNote},
                   {"keep_free_bytes", manager->keepFreeBytes},
                   {"domains", domains->size()},
                   {"attached", attached},
                   {"memory_bytes", memory},
                   {"used_bytes", used},
                   {"saved_bytes", saved}});
        return ExitCode::ok;
    }
    const auto style = Style::of(stdout);
    const bool connected = manager->hypervisorState == "connected";
    line("thermoclined", manager->version);
    line("libvirt",
         fmt::format("{} ({})", style.paint(manager->hypervisorState, connected ? Colour::good : Colour::bad),
                     manager->hypervisorUri));
    if (!manager->hypervisorDetail.empty()) line("", manager->hypervisorDetail);
    if (!manager->configurationNote.empty())
        line("Configuration", style.paint(manager->configurationNote, Colour::bad));
    line("Budget", budgetText(*manager));
    line("Domains", fmt::format("{}, {} attached", domains->size(), attached));
    if (attached != 0) {
        line("Attached memory", formatByteSize(memory));
        line("Used", formatByteSize(used));
        line("Saved", style.paint(formatByteSize(saved), Colour::good));
    }
    return ExitCode::ok;
}

}  // namespace

void addStatusCommand(CLI::App& app, Common& common) {
    auto* const command = addCommand(app, common, "status", "show one domain in full, or the daemon",
                                     "  thermoctl status\n"
                                     "  thermoctl status web1\n"
                                     "  thermoctl status web1 --json | jq .used_bytes\n");
    const auto name = std::make_shared<std::string>();
    addDomainArgument(command, *name);
    command->callback([&common, name] {
        common.run = [&common, name]() -> Expected<ExitCode> {
            if (name->empty()) return showDaemon(common);
            const auto target = findTarget(common, *name);
            if (!target) return tl::unexpected<Failure>(target.error());
            if (common.json)
                printJson(toJson(target->domain));
            else
                printDomain(target->domain);
            return ExitCode::ok;
        };
    });
}

}  // namespace thermocline::cli
