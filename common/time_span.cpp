// SPDX-License-Identifier: Apache-2.0
#include "common/time_span.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <utility>

namespace thermocline {
namespace {

constexpr std::array<std::pair<std::string_view, std::int64_t>, 5> units{
    {{"w", 604800}, {"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}}};

}  // namespace

Result<std::chrono::seconds> parseSpan(std::string_view text) {
    std::uint32_t number = 0;
    const auto* const end = text.data() + text.size();
    const auto [rest, status] = std::from_chars(text.data(), end, number);
    auto name = std::string_view(rest, static_cast<std::size_t>(end - rest));
    if (name.empty()) name = "s";
    const auto* const unit =
        std::find_if(units.begin(), units.end(), [&](const auto& known) { return known.first == name; });
    if (status != std::errc{} || number == 0 || unit == units.end())
        return fail(
            ErrorCode::invalidArgument,
            fmt::format("\"{}\" is not a span of time; write a number and a unit, such as 90s, 15m, 1h or 2d",
                        text));
    return std::chrono::seconds(number * unit->second);
}

std::string formatSpan(std::chrono::seconds span) {
    const auto* const unit = std::find_if(
        units.begin(), units.end(), [&](const auto& known) { return span.count() % known.second == 0; });
    return fmt::format("{}{}", span.count() / unit->second, unit->first);
}

}  // namespace thermocline
