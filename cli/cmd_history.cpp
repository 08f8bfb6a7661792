// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_history.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <ctime>
#include <memory>

#include "cli/history_view.h"
#include "cli/output.h"
#include "common/byte_size.h"

namespace thermocline::cli {
namespace {

struct Arguments {
    std::string domain;
    std::string since = "1h";
    std::string resolution = "auto";
    std::size_t rows = 30;
};

std::string timeText(std::uint64_t time, bool withDate) {
    const std::tm local = fmt::localtime(static_cast<std::time_t>(time));
    return withDate ? fmt::format("{:%Y-%m-%d %H:%M:%S}", local) : fmt::format("{:%H:%M:%S}", local);
}

void printTable(const std::vector<HistorySample>& samples, bool withDate) {
    Table table({{"TIME"},
                 {"SPAN", true},
                 {"RESIDENT", true},
                 {"STAGED", true},
                 {"COLD", true},
                 {"STORE", true},
                 {"USED", true},
                 {"LIMIT", true},
                 {"FAULTS", true},
                 {"EVICTED", true},
                 {"STALL", true},
                 {"HIGHEST", true}});
    std::vector<double> used;
    for (const auto& sample : samples) {
        used.push_back(static_cast<double>(sample.used));
        table.add({timeText(sample.time, withDate), fmt::format("{} s", sample.span),
                   formatByteSize(sample.resident), formatByteSize(sample.staged),
                   formatByteSize(sample.cold), formatByteSize(sample.store), formatByteSize(sample.used),
                   sizeOrDash(sample.limit), std::to_string(sample.faults),
                   std::to_string(sample.evictedPages), duration(sample.stallNanoseconds),
                   percent(sample.stallRatioMax)});
    }
    fmt::print("{}", table.render(Style::of(stdout)));
    if (::isatty(STDOUT_FILENO) == 1) fmt::print("\nused  {}\n", sparkline(used));
}

Expected<ExitCode> show(const Common& common, const Arguments& arguments) {
    const auto span = parseSpan(arguments.since);
    if (!span) return fail(ExitCode::usage, std::string(errorName(span.error().code)), span.error().message);
    auto target = findTarget(common, arguments.domain);
    if (!target) return tl::unexpected<Failure>(target.error());
    auto samples = target->client.history(target->domain, std::chrono::system_clock::now() - *span,
                                          arguments.resolution);
    if (!samples) return tl::unexpected<Failure>(samples.error());
    if (common.json) {
        auto list = nlohmann::json::array();
        for (const auto& sample : *samples)
            list.push_back(toJson(sample));
        printJson({{"name", target->domain.name}, {"uuid", target->domain.uuid}, {"samples", list}});
        return ExitCode::ok;
    }
    if (samples->empty()) {
        fmt::print(stderr, "no history of {} in the last {}: samples are taken while it is attached\n",
                   target->domain.name, arguments.since);
        return ExitCode::ok;
    }
    printTable(condense(*samples, arguments.rows), *span > std::chrono::hours(12));
    return ExitCode::ok;
}

}  // namespace

void addHistoryCommand(CLI::App& app, Common& common) {
    auto* const command =
        addCommand(app, common, "history", "show what a domain's memory did",
                   "  thermoctl history web1\n"
                   "  thermoctl history web1 --since 2d --resolution minute --rows 0\n"
                   "  thermoctl history web1 --since 10m --json | jq '.samples[].used_bytes'\n");
    const auto arguments = std::make_shared<Arguments>();
    addDomainArgument(command, arguments->domain)->required();
    command->add_option("--since", arguments->since, "how far back: 90s, 15m, 1h, 2d, 1w")
        ->capture_default_str();
    command
        ->add_option("--resolution", arguments->resolution,
                     "1 s samples (an hour is kept) or minutes (30 days)")
        ->check(CLI::IsMember({"auto", "raw", "minute"}))
        ->capture_default_str();
    command
        ->add_option("--rows", arguments->rows,
                     "merge samples into at most so many rows; 0: do not (tables only)")
        ->capture_default_str();
    command->callback(
        [&common, arguments] { common.run = [&common, arguments] { return show(common, *arguments); }; });
}

}  // namespace thermocline::cli
