// SPDX-License-Identifier: Apache-2.0
#include "common/share.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace thermocline {
namespace {

constexpr double percentsOfOne = 100;

}  // namespace

Result<double> parseShare(std::string_view text) {
    const char* const end = text.data() + text.size();
    double number = 0;
    const auto [rest, status] = std::from_chars(text.data(), end, number);
    std::string_view unit(rest, static_cast<std::size_t>(end - rest));
    if (unit.starts_with(' ')) unit.remove_prefix(1);
    if (status != std::errc{} || !std::isfinite(number) || (unit != "%" && rest != end))
        return fail(ErrorCode::invalidArgument,
                    fmt::format("\"{}\" is not a share of time; write it like 0.5% or 0.005", text));
    return unit == "%" ? number / percentsOfOne : number;
}

std::string formatShare(double share) {
    return fmt::format("{:.6g} %", share * percentsOfOne);
}

}  // namespace thermocline
