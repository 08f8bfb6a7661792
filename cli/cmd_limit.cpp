// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_limit.h"

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "cli/output.h"
#include "common/byte_size.h"

namespace thermocline::cli {

void addLimitCommand(CLI::App& app, Common& common) {
    auto* const command =
        addCommand(app, common, "limit",
                   "bound the memory that an attached domain takes of the host (resident, staged and store "
                   "together), now "
                   "and whenever it starts again",
                   "  thermoctl limit web1 512M        M, MiB, G, GiB: powers of 1024; MB, GB: of 1000\n"
                   "  thermoctl limit web1 1.5GiB\n"
                   "  thermoctl limit web1 none        lifts it; the domain stays attached\n");
    const auto name = std::make_shared<std::string>();
    const auto size = std::make_shared<std::string>();
    addDomainArgument(command, *name)->required();
    command->add_option("SIZE", *size, "a size, or none")->required();
    command->callback([&common, name, size] {
        common.run = [&common, name, size]() -> Expected<ExitCode> {
            // A mistake is told before anything is asked of the
            // daemon. 0 is a size, if no limit: the daemon says so.
            std::optional<std::uint64_t> bytes;
            if (*size != "none") {
                const auto parsed = parseByteSize(*size);
                if (!parsed) return fail(ExitCode::usage, "InvalidLimit", parsed.error().message);
                bytes = *parsed;
            }
            auto target = findTarget(common, *name);
            if (!target) return tl::unexpected<Failure>(target.error());
            const auto set = bytes ? target->client.setLimit(target->domain, *bytes)
                                   : target->client.clearLimit(target->domain);
            if (!set) return tl::unexpected<Failure>(set.error());
            const auto now = target->client.refresh(target->domain);
            if (!now) return tl::unexpected<Failure>(now.error());
            if (common.json)
                printJson(toJson(*now));
            else if (!bytes)
                fmt::print("{}: no limit\n", now->name);
            else
                fmt::print("{}: limit {}, used {}{}\n", now->name, formatByteSize(*bytes),
                           formatByteSize(now->usedBytes),
                           now->usedBytes > *bytes ? "; it is being brought down, see thermoctl top" : "");
            return ExitCode::ok;
        };
    });
}

}  // namespace thermocline::cli
