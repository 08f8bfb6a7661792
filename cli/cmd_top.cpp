// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_top.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <memory>
#include <thread>

#include "cli/output.h"

namespace thermocline::cli {
namespace {

struct Arguments {
    std::uint64_t count = 0;
    double interval = 1;
};

Expected<ExitCode> show(const Common& common, const Arguments& arguments) {
    auto client = Client::connect(common.bus);
    if (!client) return tl::unexpected<Failure>(client.error());
    const bool terminal = ::isatty(STDOUT_FILENO) == 1;
    std::size_t linesShown = 0;
    auto next = std::chrono::steady_clock::now();
    for (std::uint64_t turn = 0; arguments.count == 0 || turn < arguments.count; ++turn) {
        std::this_thread::sleep_until(next);
        next += std::chrono::duration_cast<std::chrono::nanoseconds>(
            std::chrono::duration<double>(arguments.interval));
        const auto domains = client->domains();
        if (!domains) return tl::unexpected<Failure>(domains.error());
        if (common.json) {
            printJson({{"time", std::time(nullptr)}, {"domains", toJson(*domains)}});
            continue;
        }
        const std::string text = domainTable(*domains, Style::of(stdout));
        // In place: up to where the last one began, and clear from there on.
        if (terminal && linesShown != 0) fmt::print("\033[{}A\033[J", linesShown);
        fmt::print("{}", text);
        std::fflush(stdout);
        linesShown = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
    }
    return ExitCode::ok;
}

}  // namespace

void addTopCommand(CLI::App& app, Common& common) {
    auto* const command = addCommand(app, common, "top", "show all domains, refreshed until interrupted",
                                     "  thermoctl top\n"
                                     "  thermoctl top --count 1\n"
                                     "  thermoctl top --interval 5 --json >> figures.jsonl\n");
    const auto arguments = std::make_shared<Arguments>();
    command->add_option("--count", arguments->count, "end after so many refreshes; 0: never")
        ->capture_default_str();
    command->add_option("--interval", arguments->interval, "seconds between refreshes")
        ->check(CLI::Range(0.1, 3600.0))
        ->capture_default_str();
    command->callback(
        [&common, arguments] { common.run = [&common, arguments] { return show(common, *arguments); }; });
}

}  // namespace thermocline::cli
