// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_limit.h"

#include <fmt/format.h>

#include <memory>

#include "cli/output.h"
#include "common/byte_size.h"

namespace thermocline::cli {

void addLimitCommand(CLI::App& app, Common& common) {
    auto* const command =
        addCommand(app, common, "limit",
                   "bound the memory that an attached domain takes of the host (resident, staged and store together), now "
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
            std::uint64_t bytes = 0;
            if (*size != "none") {  // a mistake is told before anything is asked of the daemon
                const auto parsed = parseByteSize(*size);
                if (!parsed) return fail(ExitCode::usage, "InvalidLimit", parsed.error().message);
                if (*parsed == 0)
                    return fail(ExitCode::usage, "InvalidLimit",
                                fmt::format("0 is no limit; to lift the limit: thermoctl limit {} none", *name));
                bytes = *parsed;
            }
            auto target = findTarget(common, *name);
            if (!target) return tl::unexpected<Failure>(target.error());
            const auto set = bytes == 0 ? target->client.clearLimit(target->domain)
                                        : target->client.setLimit(target->domain, bytes);
            if (!set) return tl::unexpected<Failure>(set.error());
            const auto now = target->client.refresh(target->domain);
            if (!now) return tl::unexpected<Failure>(now.error());
            if (common.json)
                printJson(toJson(*now));
            else if (bytes == 0)
                fmt::print("{}: no limit\n", now->name);
            else
                fmt::print("{}: limit {}, used {}{}\n", now->name, formatByteSize(bytes), formatByteSize(now->usedBytes),
                           now->usedBytes > bytes ? "; it is being brought down, see thermoctl top" : "");
            return ExitCode::ok;
        };
    });
}

}  // namespace thermocline::cli
