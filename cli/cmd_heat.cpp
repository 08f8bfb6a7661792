// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_heat.h"

#include <fmt/format.h>

#include <memory>

#include "cli/heat_view.h"
#include "cli/image_file.h"
#include "cli/output.h"

namespace thermocline::cli {
namespace {

struct Arguments {
    std::string domain;
    std::uint32_t pieces = 512;
    std::string plot;
};

Expected<ExitCode> show(const Common& common, const Arguments& arguments) {
    if (!arguments.plot.empty())
        if (const auto named = checkImageFile(arguments.plot); !named)
            return tl::unexpected<Failure>(named.error());
    auto target = findTarget(common, arguments.domain);
    if (!target) return tl::unexpected<Failure>(target.error());
    auto map = target->client.heat(target->domain, arguments.pieces);
    if (!map) return tl::unexpected<Failure>(map.error());
    const HeatView view{target->domain.name, target->domain.memoryBytes, std::move(*map)};
    if (!arguments.plot.empty())
        if (const auto written = writeImage(arguments.plot, heatSvg(view)); !written)
            return tl::unexpected<Failure>(written.error());
    if (common.json)
        printJson(heatJson(view));
    else if (arguments.plot.empty())
        fmt::print("{}", heatText(view, Style::of(stdout)));
    else
        fmt::print("{}: heat map in {}\n", view.domain, arguments.plot);
    return ExitCode::ok;
}

}  // namespace

void addHeatCommand(CLI::App& app, Common& common) {
    auto* const command = addCommand(app, common, "heat", "draw where an attached domain's memory is hot",
                                     "  thermoctl heat web1\n"
                                     "  thermoctl heat web1 --pieces 1024 --plot web1.png\n"
                                     "  thermoctl heat web1 --json | jq .working_set_bytes\n");
    const auto arguments = std::make_shared<Arguments>();
    addDomainArgument(command, arguments->domain)->required();
    command
        ->add_option("--pieces", arguments->pieces, "how many cells the guest's RAM is shown in, 1 to 1024")
        ->capture_default_str();
    command->add_option("--plot", arguments->plot, "draw into this .svg or .png file instead");
    command->callback(
        [&common, arguments] { common.run = [&common, arguments] { return show(common, *arguments); }; });
}

}  // namespace thermocline::cli
