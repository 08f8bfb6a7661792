// SPDX-License-Identifier: Apache-2.0
#include "cli/history_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

namespace thermocline::cli {
namespace {

constexpr auto levels = {&HistorySample::memory, &HistorySample::resident, &HistorySample::staged,
                         &HistorySample::cold,   &HistorySample::store,    &HistorySample::metadata,
                         &HistorySample::used,   &HistorySample::limit};
constexpr auto counters = {&HistorySample::faults,       &HistorySample::stagedFaults,
                           &HistorySample::coldFaults,   &HistorySample::zeroFaults,
                           &HistorySample::evictedPages, &HistorySample::stallNanoseconds};

HistorySample merge(const HistorySample& left, const HistorySample& right) {
    HistorySample merged = left;
    merged.span = left.span + right.span;
    for (const auto level : levels) {
        const double sum =
            static_cast<double>(left.*level) * left.span + static_cast<double>(right.*level) * right.span;
        merged.*level = static_cast<std::uint64_t>(std::llround(sum / merged.span));
    }
    for (const auto counter : counters)
        merged.*counter = left.*counter + right.*counter;
    merged.stallRatioMax = std::max(left.stallRatioMax, right.stallRatioMax);
    return merged;
}

}  // namespace

Result<std::chrono::seconds> parseSpan(std::string_view text) {
    const auto bad = [&] {
        return fail(
            ErrorCode::invalidArgument,
            fmt::format("\"{}\" is not a span of time; write a number and a unit, such as 90s, 15m, 1h or 2d",
                        text));
    };
    std::uint32_t number = 0;
    const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (status != std::errc{} || number == 0) return bad();
    static const std::map<std::string_view, std::int64_t> units{{"", 1},     {"s", 1},     {"m", 60},
                                                                {"h", 3600}, {"d", 86400}, {"w", 604800}};
    const auto unit =
        units.find(std::string_view(rest, static_cast<std::size_t>(text.data() + text.size() - rest)));
    if (unit == units.end()) return bad();
    return std::chrono::seconds(number * unit->second);
}

std::vector<HistorySample> condense(const std::vector<HistorySample>& samples, std::size_t rows) {
    if (rows == 0 || samples.size() <= rows) return samples;
    const std::uint64_t begin = samples.front().time;
    const std::uint64_t length = samples.back().time + samples.back().span - begin;
    const std::uint64_t span = (length + rows - 1) / rows;
    std::vector<HistorySample> result;
    for (const auto& sample : samples) {
        const bool sameBucket =
            !result.empty() && (result.back().time - begin) / span == (sample.time - begin) / span;
        if (sameBucket)
            result.back() = merge(result.back(), sample);
        else
            result.push_back(sample);
    }
    return result;
}

}  // namespace thermocline::cli
