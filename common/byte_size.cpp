// SPDX-License-Identifier: Apache-2.0
#include "common/byte_size.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

namespace thermocline {
namespace {

struct Unit {
    std::string_view name;  // lower case
    double factor;
};
constexpr double ki = 1024.0;
constexpr double k = 1000.0;
constexpr std::array units{
    Unit{"", 1},
    Unit{"b", 1},
    Unit{"k", ki},
    Unit{"kib", ki},
    Unit{"m", ki* ki},
    Unit{"mib", ki* ki},
    Unit{"g", ki* ki* ki},
    Unit{"gib", ki* ki* ki},
    Unit{"t", ki* ki* ki* ki},
    Unit{"tib", ki* ki* ki* ki},
    Unit{"kb", k},
    Unit{"mb", k* k},
    Unit{"gb", k* k* k},
    Unit{"tb", k* k* k* k},
};

}  // namespace

Result<std::uint64_t> parseByteSize(std::string_view text) {
    const auto bad = [&] {
        return fail(
            ErrorCode::invalidArgument,
            fmt::format("\"{}\" is not a size; write a number with a unit, such as 512M or 1.5GiB", text));
    };
    double value = 0;
    const char* const begin = text.data();
    const char* const end = begin + text.size();
    // The first character must be a digit: from_chars would also take "-1", "inf" and "nan".
    if (text.empty() || std::isdigit(static_cast<unsigned char>(text.front())) == 0) return bad();
    const auto [rest, status] = std::from_chars(begin, end, value, std::chars_format::fixed);
    if (status != std::errc{}) return bad();
    const char* unitBegin = rest;
    while (unitBegin != end && *unitBegin == ' ')
        ++unitBegin;
    std::string unit(unitBegin, end);
    for (char& c : unit)
        c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    for (const auto& known : units) {
        if (unit != known.name) continue;
        const double bytes = value * known.factor;
        if (bytes >= 9.2e18) return bad();  // would not fit into the protocols' 64-bit integers
        return static_cast<std::uint64_t>(std::llround(bytes));
    }
    return bad();
}

std::string formatByteSize(std::uint64_t bytes) {
    constexpr std::array names{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1024 && unit + 1 < names.size()) {
        value /= 1024;
        ++unit;
    }
    return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, names[unit]);
}

}  // namespace thermocline
