// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <future>

#include "common/byte_size.h"

namespace thermocline::cli {

Expected<void> withProgress(const Common& common, Target& target, const std::string& what,
                            const std::function<Expected<void>(Client&, const DomainFigures&)>& call) {
    if (common.json || ::isatty(STDOUT_FILENO) != 1) return call(target.client, target.domain);
    auto second = Client::connect(common.bus);
    if (!second) return tl::unexpected<Failure>(second.error());
    auto done = std::async(std::launch::async, [&] { return call(*second, target.domain); });
    constexpr auto refresh = std::chrono::milliseconds(250);
    bool shown = false;
    while (done.wait_for(refresh) != std::future_status::ready) {
        const auto now = target.client.refresh(target.domain);
        if (!now) continue;  // the call itself will tell
        fmt::print("\r\033[K{} {}: {} resident, {} staged, {} in the store", what, now->name,
                   formatByteSize(now->residentBytes), formatByteSize(now->stagedBytes),
                   formatByteSize(now->coldBytes));
        if (now->frozenBytes != 0) fmt::print(", {} in the file tier", formatByteSize(now->frozenBytes));
        std::fflush(stdout);
        shown = true;
    }
    if (shown) fmt::print("\r\033[K");
    return done.get();
}

}  // namespace thermocline::cli
