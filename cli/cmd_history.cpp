// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_history.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "cli/history_plot.h"
#include "cli/history_view.h"
#include "cli/image_file.h"
#include "cli/output.h"
#include "common/time_span.h"

namespace thermocline::cli {
namespace {

struct Arguments {
    std::string domain;
    std::string since = "1h";
    std::string until = "now";
    std::string step;
    std::string resolution = "auto";
    std::string plot;
    bool table = false;
    bool csv = false;
};

struct Period {
    std::chrono::sys_seconds since;
    std::chrono::sys_seconds until;
    std::optional<std::chrono::seconds> step;
};

tl::unexpected<Failure> usage(const Error& error) {
    return fail(ExitCode::usage, std::string(errorName(error.code)), error.message);
}

Expected<Period> periodOf(const Arguments& arguments) {
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    const auto since = parseTime(arguments.since, now);
    if (!since) return usage(since.error());
    const auto until = parseTime(arguments.until, now);
    if (!until) return usage(until.error());
    if (*since >= *until)
        return fail(ExitCode::usage, "InvalidArgument",
                    fmt::format("--since {} is not before --until {}", arguments.since, arguments.until));
    // The second that runs is not over, but what is known of it is wanted too.
    Period period{*since, *until == now ? now + std::chrono::seconds(1) : *until, std::nullopt};
    if (arguments.step.empty()) return period;
    const auto step = parseSpan(arguments.step);
    if (!step) return usage(step.error());
    constexpr std::int64_t mostSteps = 100'000;
    if ((period.until - period.since) / *step >= mostSteps)
        return fail(ExitCode::usage, "InvalidArgument",
                    fmt::format("--step {} makes more than {} steps; take a longer one, or a later --since",
                                arguments.step, mostSteps));
    period.step = *step;
    return period;
}

/// What is left of a line beside the sparkline's names and values.
std::size_t sparkColumns() {
    constexpr std::size_t others = 46;
    constexpr std::size_t least = 20;
    winsize size{};
    const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0;
    const std::size_t all = known ? size.ws_col : 100;
    return std::max(all, others + least) - others;
}

/// A step that suits what is drawn, and is not shorter than what is known.
std::chrono::seconds chosenStep(const Period& period, const std::vector<HistorySample>& samples,
                                std::size_t columns) {
    // A second may have no sample where the one before came late: not to be shown as a gap.
    std::uint32_t span = 2;
    for (const auto& sample : samples)
        span = std::max(span, sample.span);
    return std::max(stepFor(period.until - period.since, columns), std::chrono::seconds(span));
}

Expected<ExitCode> show(const Common& common, const Arguments& arguments) {
    const auto period = periodOf(arguments);
    if (!period) return tl::unexpected<Failure>(period.error());
    if (!arguments.plot.empty())
        if (const auto named = checkImageFile(arguments.plot); !named)
            return tl::unexpected<Failure>(named.error());
    auto target = findTarget(common, arguments.domain);
    if (!target) return tl::unexpected<Failure>(target.error());
    auto samples = target->client.history(target->domain, period->since, period->until, arguments.resolution);
    if (!samples) return tl::unexpected<Failure>(samples.error());
    const auto& name = target->domain.name;
    auto decisions = target->client.decisions(period->since, period->until);
    if (!decisions) return tl::unexpected<Failure>(decisions.error());
    std::erase_if(*decisions, [&](const DecisionRow& decision) {
        return !decision.uuid.empty() && decision.uuid != target->domain.uuid;
    });
    const auto viewOf = [&](std::size_t columns) {
        return historyView(name, *samples, period->since, period->until,
                           period->step.value_or(chosenStep(*period, *samples, columns)));
    };
    if (!arguments.plot.empty()) {
        constexpr std::size_t plotColumns = 390;
        if (const auto written = writeImage(arguments.plot, historySvg(viewOf(plotColumns))); !written)
            return tl::unexpected<Failure>(written.error());
    }
    if (common.json || arguments.csv) {
        // Unless a step was asked for, programs get what there is.
        const auto wanted = period->step ? knownSamples(viewOf(1)) : std::move(*samples);
        if (arguments.csv) {
            fmt::print("{}", historyCsv(wanted));
            return ExitCode::ok;
        }
        auto list = nlohmann::json::array();
        for (const auto& sample : wanted)
            list.push_back(toJson(sample));
        auto why = nlohmann::json::array();
        for (const auto& decision : *decisions)
            why.push_back(toJson(decision));
        printJson({{"name", name}, {"uuid", target->domain.uuid}, {"samples", list}, {"decisions", why}});
        return ExitCode::ok;
    }
    if (!arguments.plot.empty()) {
        fmt::print("{}: history in {}\n", name, arguments.plot);
        return ExitCode::ok;
    }
    if (samples->empty()) {
        fmt::print(stderr, "no history of {} since {}: samples are taken while it is attached\n", name,
                   arguments.since);
        return ExitCode::ok;
    }
    constexpr std::size_t tableRows = 30;
    const auto style = Style::of(stdout);
    if (arguments.table)
        fmt::print("{}", historyTable(viewOf(tableRows), style));
    else
        fmt::print("{}", historyText(viewOf(sparkColumns()), style));
    // The newest; all of them are in the JSON.
    constexpr std::size_t mostDecisions = 10;
    const auto begin = decisions->size() - std::min(decisions->size(), mostDecisions);
    if (!decisions->empty())
        fmt::print(
            "\nDecisions about the host's budget ({} of {}):\n{}", decisions->size() - begin,
            decisions->size(),
            decisionsText({decisions->begin() + static_cast<std::ptrdiff_t>(begin), decisions->end()}));
    return ExitCode::ok;
}

}  // namespace

void addHistoryCommand(CLI::App& app, Common& common) {
    auto* const command =
        addCommand(app, common, "history", "draw what a domain's memory did",
                   "  thermoctl history web1\n"
                   "  thermoctl history web1 --since yesterday --until today --plot web1.svg\n"
                   "  thermoctl history web1 --since 14:30 --step 1m --table\n"
                   "  thermoctl history web1 --since 30d --step 1d --csv\n"
                   "  thermoctl history web1 --since 10m --json | jq '.samples[].used_bytes'\n");
    const auto arguments = std::make_shared<Arguments>();
    addDomainArgument(command, arguments->domain)->required();
    command
        ->add_option(
            "--since,-S", arguments->since,
            "how far back (90s, 15m, 1h, 2d, 1w), or when: \"2026-11-24 14:30\", 14:30, today, yesterday")
        ->capture_default_str();
    command->add_option("--until,-U", arguments->until, "likewise")->capture_default_str();
    command->add_option(
        "--step", arguments->step,
        "merge samples into steps of this span (default: what suits the output; --json and --csv "
        "do not merge)");
    command
        ->add_option("--resolution", arguments->resolution,
                     "1 s samples (an hour is kept) or minutes (30 days)")
        ->check(CLI::IsMember({"auto", "raw", "minute"}))
        ->capture_default_str();
    auto* const table = command->add_flag("--table", arguments->table, "figures, a row per step");
    auto* const csv = command->add_flag("--csv", arguments->csv, "figures as CSV");
    table->excludes(csv);
    csv->excludes(command->get_option("--json"));
    command->add_option("--plot", arguments->plot, "draw into this .svg or .png file");
    command->callback(
        [&common, arguments] { common.run = [&common, arguments] { return show(common, *arguments); }; });
}

}  // namespace thermocline::cli
