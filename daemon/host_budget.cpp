// SPDX-License-Identifier: Apache-2.0
#include "daemon/host_budget.h"

#include <fmt/format.h>

#include <array>

#include "common/byte_size.h"
#include "common/share.h"

namespace thermocline {

Result<db::HostBudget> parseHostBudget(std::string_view text, std::uint64_t keepFree) {
    if (text == "off") return db::HostBudget{};
    constexpr std::uint64_t least = 64U << 20;
    const auto refused = [&] {
        return fail(
            ErrorCode::invalidArgument,
            fmt::format("\"{}\" is no budget; write a size of 64 MiB or more (24GiB), a share of the host's "
                        "RAM from 1% to 100%, or off",
                        text));
    };
    // A number alone could be either; below 1 it can only be a share.
    if (const auto share = parseShare(text); share && (text.ends_with('%') || *share < 1)) {
        if (*share < 0.01 || *share > 1) return refused();
        return db::HostBudget{0, *share, keepFree};
    }
    const auto bytes = parseByteSize(text);
    if (!bytes || *bytes < least) return refused();
    return db::HostBudget{*bytes, 0, keepFree};
}

std::string formatHostBudget(const db::HostBudget& budget) {
    if (budget.share != 0) return fmt::format("{}%", budget.share * 100);
    if (budget.bytes == 0) return "off";
    constexpr std::uint64_t step = 1024;
    constexpr std::array units{"", "KiB", "MiB", "GiB", "TiB"};
    std::uint64_t number = budget.bytes;
    std::size_t unit = 0;
    while (number % step == 0 && unit + 1 < units.size()) {
        number /= step;
        ++unit;
    }
    return fmt::format("{}{}", number, units.at(unit));
}

}  // namespace thermocline
