// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_proactive.h"

#include <fmt/format.h>

#include <memory>

#include "cli/output.h"
#include "common/byte_size.h"
#include "common/share.h"

namespace thermocline::cli {
namespace {

struct Arguments {
    std::string domain;
    std::string off;
    std::string maxStall = "0.5%";
    std::string minResident = "0";
};

tl::unexpected<Failure> usage(std::string message) {
    return fail(ExitCode::usage, "InvalidArgument", std::move(message));
}

Expected<ExitCode> set(const Common& common, const Arguments& arguments) {
    // A mistake is told before anything is asked of the daemon. What
    // is in range is not known here: the VM's manager says so.
    double maxStall = 0;
    std::uint64_t minResident = 0;
    if (arguments.off.empty()) {
        const auto share = parseShare(arguments.maxStall);
        if (!share) return usage(share.error().message);
        if (*share == 0)
            return usage(
                fmt::format("a stall of 0 leaves nothing to do; to end it: thermoctl proactive {} off",
                            arguments.domain));
        const auto size = parseByteSize(arguments.minResident);
        if (!size) return usage(size.error().message);
        maxStall = *share;
        minResident = *size;
    }
    auto target = findTarget(common, arguments.domain);
    if (!target) return tl::unexpected<Failure>(target.error());
    if (const auto done = target->client.setProactive(target->domain, maxStall, minResident); !done)
        return tl::unexpected<Failure>(done.error());
    const auto now = target->client.refresh(target->domain);
    if (!now) return tl::unexpected<Failure>(now.error());
    if (common.json)
        printJson(toJson(*now));
    else
        fmt::print("{}: proactive {}\n", now->name, proactiveText(*now));
    return ExitCode::ok;
}

}  // namespace

void addProactiveCommand(CLI::App& app, Common& common) {
    auto* const command = addCommand(
        app, common, "proactive",
        "look for cold memory of an attached domain also where no limit asks for it, now and whenever "
        "it starts again",
        "  thermoctl proactive web1                       the guest may lose 0.5 % of its time to it\n"
        "  thermoctl proactive web1 --max-stall 1%        or 0.01\n"
        "  thermoctl proactive web1 --min-resident 512M   leaves so much in memory, however cold\n"
        "  thermoctl proactive web1 off                   brings back what no limit keeps out\n");
    const auto arguments = std::make_shared<Arguments>();
    addDomainArgument(command, arguments->domain)->required();
    auto* const off = command->add_option("off", arguments->off, "off: look for it no more")
                          ->check(CLI::IsMember({"off"}))
                          ->option_text("[off]");
    command
        ->add_option("--max-stall", arguments->maxStall,
                     "share of time that the guest may wait for its pages, such as 0.5% or 0.005")
        ->capture_default_str()
        ->excludes(off);
    command
        ->add_option("--min-resident", arguments->minResident,
                     "a size: what stays in memory, however cold; 0 where not given")
        ->capture_default_str()
        ->excludes(off);
    command->callback(
        [&common, arguments] { common.run = [&common, arguments] { return set(common, *arguments); }; });
}

}  // namespace thermocline::cli
