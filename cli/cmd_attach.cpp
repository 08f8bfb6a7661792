// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_attach.h"

#include <fmt/format.h>

#include <memory>

#include "cli/output.h"
#include "cli/progress.h"
#include "common/byte_size.h"

namespace thermocline::cli {

void addAttachCommand(CLI::App& app, Common& common) {
    auto* const command =
        addCommand(app, common, "attach",
                   "attach to a running domain, and again whenever it starts (the VM pauses for about a "
                   "millisecond; nothing is taken until a limit is set)",
                   "  thermoctl attach web1\n"
                   "  thermoctl attach 6695eb01-f6a4-8304-79aa-97f2502e193f --json\n");
    const auto name = std::make_shared<std::string>();
    addDomainArgument(command, *name)->required();
    command->callback([&common, name] {
        common.run = [&common, name]() -> Expected<ExitCode> {
            auto target = findTarget(common, *name);
            if (!target) return tl::unexpected<Failure>(target.error());
            const auto attached = withProgress(
                common, *target, "attaching",
                [](Client& client, const DomainFigures& domain) { return client.attach(domain); });
            if (!attached) return tl::unexpected<Failure>(attached.error());
            const auto now = target->client.refresh(target->domain);
            if (!now) return tl::unexpected<Failure>(now.error());
            if (common.json)
                printJson(toJson(*now));
            else
                fmt::print("{}: attached by {}, {} of RAM, pause {} us\n", now->name, now->mechanism,
                           formatByteSize(now->memoryBytes), now->attachPauseMicroseconds);
            return ExitCode::ok;
        };
    });
}

}  // namespace thermocline::cli
