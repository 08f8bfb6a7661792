// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_doctor.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/output.h"

namespace thermocline::cli {
namespace {

void printFinding(const memory::Finding& finding, const Style& style) {
    fmt::print("{}  {}: {}\n",
               finding.ok ? style.paint("ok     ", Colour::good) : style.paint("missing", Colour::bad),
               finding.name, finding.detail);
    if (!finding.fix.empty()) fmt::print("         fix: {}\n", finding.fix);
}

void printDomain(const DomainFigures& domain, const Style& style) {
    // That a domain does not run now is no defect of it.
    const Colour colour = domain.supported ? Colour::good : domain.running ? Colour::bad : Colour::dim;
    const std::string verdict = domain.supported ? "yes" : domain.running ? "no" : "unknown";
    fmt::print("{}: {}{}\n", domain.name, style.paint(verdict, colour),
               domain.supported
                   ? fmt::format(", by {}{}", domain.mechanism, domain.attached() ? " (attached)" : "")
                   : fmt::format(": {}", domain.supportReason));
    if (!domain.supportFix.empty()) fmt::print("         fix: {}\n", domain.supportFix);
}

nlohmann::json supportJson(const DomainFigures& domain) {
    return {{"name", domain.name},
            {"uuid", domain.uuid},
            {"running", domain.running},
            {"state", domain.state},
            {"supported", domain.supported},
            {"mechanism", domain.mechanism},
            {"reason", domain.supportReason},
            {"fix", domain.supportFix}};
}

Expected<ExitCode> examineDomain(const Common& common, const std::string& name) {
    const auto target = findTarget(common, name);
    if (!target) return tl::unexpected<Failure>(target.error());
    if (common.json)
        printJson(supportJson(target->domain));
    else
        printDomain(target->domain, Style::of(stdout));
    return target->domain.supported ? ExitCode::ok : ExitCode::notSupported;
}

struct Report {
    bool usable = true;
    std::vector<memory::Finding> host;
    std::vector<DomainFigures> domains;
};

/// The daemon's word where it answers, since it is what will attach; else what this process can see itself.
Report examine(const Common& common) {
    Report report;
    auto client = Client::connect(common.bus);
    auto findings = client ? client->doctor() : tl::unexpected<Failure>(client.error());
    const auto allOk = [&] {
        return std::all_of(report.host.begin(), report.host.end(),
                           [](const auto& finding) { return finding.ok; });
    };
    if (findings) {
        report.host = std::move(*findings);
        report.usable = allOk();
        report.host.push_back({"thermoclined", true, "answers", ""});
        if (auto domains = client->domains()) report.domains = std::move(*domains);
        return report;
    }
    auto support = memory::probeHost();
    report.host = std::move(support.findings);
    report.usable = support.usable;
    report.host.push_back(
        {"thermoclined", false, "does not answer",
         "systemctl start thermoclined (or, as root: thermoclined &); then domains are examined too"});
    return report;
}

Expected<ExitCode> examineAll(const Common& common) {
    const Report report = examine(common);
    if (common.json) {
        auto host = nlohmann::json::array();
        for (const auto& finding : report.host)
            host.push_back(toJson(finding));
        auto domains = nlohmann::json::array();
        for (const auto& domain : report.domains)
            domains.push_back(supportJson(domain));
        printJson({{"usable", report.usable}, {"host", host}, {"domains", domains}});
    } else {
        const auto style = Style::of(stdout);
        fmt::print("{}\n", style.paint("This host", Colour::bold));
        for (const auto& finding : report.host)
            printFinding(finding, style);
        if (!report.domains.empty()) fmt::print("\n{}\n", style.paint("Can be overcommitted?", Colour::bold));
        for (const auto& domain : report.domains)
            printDomain(domain, style);
    }
    return report.usable ? ExitCode::ok : ExitCode::notSupported;
}

}  // namespace

void addDoctorCommand(CLI::App& app, Common& common) {
    auto* const command =
        addCommand(app, common, "doctor",
                   "say whether this host and each domain can be overcommitted, by which mechanism, and "
                   "if not the exact fix (the host's part works without the daemon). Exit code 5: not "
                   "as things are",
                   "  thermoctl doctor\n"
                   "  thermoctl doctor web1\n"
                   "  thermoctl doctor --json | jq '.host[] | select(.ok | not) | .fix'\n");
    const auto name = std::make_shared<std::string>();
    addDomainArgument(command, *name);
    command->callback([&common, name] {
        common.run = [&common, name] {
            return name->empty() ? examineAll(common) : examineDomain(common, *name);
        };
    });
}

}  // namespace thermocline::cli
