// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_freeze_paused.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "cli/output.h"
#include "common/time_span.h"

namespace thermocline::cli {
namespace {

struct Arguments {
    std::string domain;
    std::string after;
};

/// 0 where it is "off". What is too long is the daemon's to say.
Result<std::uint32_t> parseAfter(const std::string& text) {
    if (text == "off") return 0;
    const auto span = parseSpan(text);
    if (!span)
        return fail(ErrorCode::invalidArgument,
                    fmt::format("{}; \"off\" leaves its memory where it is", span.error().message));
    return static_cast<std::uint32_t>(
        std::min<std::int64_t>(span->count(), std::numeric_limits<std::uint32_t>::max()));
}

Expected<ExitCode> set(const Common& common, const Arguments& arguments) {
    const auto seconds = parseAfter(arguments.after);
    if (!seconds) return fail(ExitCode::usage, "InvalidArgument", seconds.error().message);
    auto target = findTarget(common, arguments.domain);
    if (!target) return tl::unexpected<Failure>(target.error());
    if (const auto done = target->client.setFreezePaused(target->domain, *seconds); !done)
        return tl::unexpected<Failure>(done.error());
    const auto now = target->client.refresh(target->domain);
    if (!now) return tl::unexpected<Failure>(now.error());
    if (common.json)
        printJson(toJson(*now));
    else
        fmt::print("{}: {}\n", now->name, freezePausedText(*now));
    return ExitCode::ok;
}

}  // namespace

void addFreezePausedCommand(CLI::App& app, Common& common) {
    auto* const command = addCommand(
        app, common, "freeze-paused",
        "let all of a managed domain's memory go once it has been paused (virsh suspend) for so long",
        "  thermoctl freeze-paused web1 5m    what it worked with comes back first when it is resumed\n"
        "  thermoctl freeze-paused web1 off   its memory stays where it is\n");
    const auto arguments = std::make_shared<Arguments>();
    addDomainArgument(command, arguments->domain)->required();
    command->add_option("AFTER", arguments->after, "a time, such as 30s, 5m or 1h, or off")->required();
    command->callback(
        [&common, arguments] { common.run = [&common, arguments] { return set(common, *arguments); }; });
}

}  // namespace thermocline::cli
