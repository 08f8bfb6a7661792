// SPDX-License-Identifier: Apache-2.0
#include "cli/history_view.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <functional>

#include "common/byte_size.h"
#include "common/time_span.h"

namespace thermocline::cli {
namespace {

constexpr auto levels = {&HistorySample::memory, &HistorySample::resident, &HistorySample::staged,
                         &HistorySample::cold,   &HistorySample::store,    &HistorySample::metadata,
                         &HistorySample::used,   &HistorySample::limit,    &HistorySample::frozen};
constexpr auto counters = {&HistorySample::faults,       &HistorySample::stagedFaults,
                           &HistorySample::coldFaults,   &HistorySample::zeroFaults,
                           &HistorySample::evictedPages, &HistorySample::stallNanoseconds,
                           &HistorySample::frozenFaults};

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

tl::unexpected<Error> noTime(std::string_view text) {
    return fail(
        ErrorCode::invalidArgument,
        fmt::format("\"{}\" is no time; write how far back (15m, 2h, 1d), a day and a time (2026-11-24 "
                    "14:30), a time of today (14:30), today, yesterday or now",
                    text));
}

/// All of the text by one of the formats, on top of the fields of `base`.
std::optional<std::chrono::sys_seconds> byFormat(const std::string& text,
                                                 std::initializer_list<const char*> formats,
                                                 const std::tm& base) {
    for (const char* const format : formats) {
        std::tm parsed = base;
        const char* const rest = ::strptime(text.c_str(), format, &parsed);
        if (rest == nullptr || *rest != '\0') continue;
        const std::tm asked = parsed;
        parsed.tm_isdst = -1;
        const std::time_t time = std::mktime(&parsed);
        // mktime() makes a day of March of the 31st of February.
        if (parsed.tm_mday != asked.tm_mday) continue;
        return std::chrono::sys_seconds(std::chrono::seconds(time));
    }
    return std::nullopt;
}

struct Line {
    const char* name;
    Colour colour;
    std::function<double(const HistorySample&)> value;
    std::function<std::string(double)> text;
};

std::string size(double bytes) {
    return formatByteSize(static_cast<std::uint64_t>(std::llround(bytes)));
}

std::string perSecond(double count) {
    return fmt::format("{:.{}f}/s", count, count < 10 && count != 0 ? 1 : 0);
}

std::vector<Line> lines() {
    const auto level = [](std::uint64_t HistorySample::*member) {
        return [member](const HistorySample& sample) { return static_cast<double>(sample.*member); };
    };
    return {{"resident", Colour::warning, level(&HistorySample::resident), size},
            {"staged", Colour::cool, level(&HistorySample::staged), size},
            {"cold", Colour::cold, level(&HistorySample::cold), size},
            {"frozen", Colour::dim, level(&HistorySample::frozen), size},
            {"used", Colour::bold, level(&HistorySample::used), size},
            {"stall", Colour::bad,
             [](const HistorySample& sample) {
                 return static_cast<double>(sample.stallNanoseconds) / 1e9 / sample.span;
             },
             [](double ratio) { return percent(ratio); }},
            {"faults", Colour::none,
             [](const HistorySample& sample) { return static_cast<double>(sample.faults) / sample.span; },
             perSecond}};
}

std::string stepText(std::chrono::seconds step) {
    for (const auto& [unit, name] : {std::pair{86400, "d"}, std::pair{3600, "h"}, std::pair{60, "min"}})
        if (step.count() % unit == 0) return fmt::format("{} {}", step.count() / unit, name);
    return fmt::format("{} s", step.count());
}

}  // namespace

std::string timeText(std::uint64_t time) {
    return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(static_cast<std::time_t>(time)));
}

Result<std::chrono::sys_seconds> parseTime(std::string_view text, std::chrono::sys_seconds now) {
    if (text == "now") return now;
    if (const auto span = parseSpan(text.starts_with('-') ? text.substr(1) : text)) return now - *span;
    std::tm today = fmt::localtime(static_cast<std::time_t>(now.time_since_epoch().count()));
    today.tm_hour = today.tm_min = today.tm_sec = 0;
    std::string day(text);
    if (text == "today" || text == "yesterday") {
        if (text == "yesterday") --today.tm_mday;
        today.tm_isdst = -1;
        return std::chrono::sys_seconds(std::chrono::seconds(std::mktime(&today)));
    }
    const auto found =
        byFormat(day, {"%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%H:%M:%S", "%H:%M"}, today);
    if (!found) return noTime(text);
    return *found;
}

std::chrono::seconds stepFor(std::chrono::seconds length, std::size_t columns) {
    constexpr std::array<std::int64_t, 17> steps{1,   2,   5,    10,   15,   30,    60,    120,  300,
                                                 600, 900, 1800, 3600, 7200, 10800, 21600, 43200};
    constexpr std::int64_t day = 86400;
    const auto least =
        (length.count() + static_cast<std::int64_t>(columns) - 1) / static_cast<std::int64_t>(columns);
    for (const auto step : steps)
        if (step >= least) return std::chrono::seconds(step);
    return std::chrono::seconds((least + day - 1) / day * day);
}

HistoryView historyView(std::string domain, const std::vector<HistorySample>& samples,
                        std::chrono::sys_seconds since, std::chrono::sys_seconds until,
                        std::chrono::seconds step) {
    const auto width = static_cast<std::uint64_t>(step.count());
    const auto seconds = [](std::chrono::sys_seconds time) {
        return static_cast<std::uint64_t>(std::max<std::int64_t>(time.time_since_epoch().count(), 0));
    };
    HistoryView view{
        std::move(domain), seconds(since) / width * width, static_cast<std::uint32_t>(width), {}};
    const auto end = seconds(until);
    view.samples.resize(end > view.begin ? (end - view.begin + width - 1) / width : 0);
    for (const auto& sample : samples) {
        if (sample.time < view.begin) continue;
        const auto index = (sample.time - view.begin) / width;
        if (index >= view.samples.size()) continue;
        auto& merged = view.samples[index];
        merged = merged ? merge(*merged, sample) : sample;
    }
    return view;
}

std::vector<HistorySample> knownSamples(const HistoryView& view) {
    std::vector<HistorySample> known;
    for (const auto& sample : view.samples)
        if (sample) known.push_back(*sample);
    return known;
}

std::string historyText(const HistoryView& view, const Style& style) {
    std::string text = fmt::format("{}: {} to {}, {} a column\n\n", view.domain, timeText(view.begin),
                                   timeText(view.begin + view.step * view.samples.size()),
                                   stepText(std::chrono::seconds(view.step)));
    Table table({{"", false}, {"", false}, {"LOWEST", true}, {"LAST", true}, {"HIGHEST", true}});
    for (const auto& line : lines()) {
        std::vector<std::optional<double>> values;
        std::vector<double> known;
        for (const auto& sample : view.samples) {
            values.push_back(sample ? std::optional(line.value(*sample)) : std::nullopt);
            if (values.back()) known.push_back(*values.back());
        }
        const auto [lowest, highest] = std::minmax_element(known.begin(), known.end());
        const auto say = [&](auto value) { return known.empty() ? std::string("-") : line.text(*value); };
        table.add({Table::Cell(line.name),
                   {sparkline(values), line.colour},
                   say(lowest),
                   say(known.empty() ? known.end() : known.end() - 1),
                   say(highest)});
    }
    return text + table.render(style);
}

std::string historyTable(const HistoryView& view, const Style& style) {
    Table table({{"TIME"},
                 {"SPAN", true},
                 {"RESIDENT", true},
                 {"STAGED", true},
                 {"COLD", true},
                 {"FROZEN", true},
                 {"STORE", true},
                 {"USED", true},
                 {"LIMIT", true},
                 {"FAULTS", true},
                 {"EVICTED", true},
                 {"STALL", true},
                 {"HIGHEST", true}});
    for (const auto& sample : knownSamples(view))
        table.add({timeText(sample.time), fmt::format("{} s", sample.span), formatByteSize(sample.resident),
                   formatByteSize(sample.staged), formatByteSize(sample.cold), formatByteSize(sample.frozen),
                   formatByteSize(sample.store), formatByteSize(sample.used), sizeOrDash(sample.limit),
                   std::to_string(sample.faults), std::to_string(sample.evictedPages),
                   duration(sample.stallNanoseconds), percent(sample.stallRatioMax)});
    return table.render(style);
}

std::string decisionsText(const std::vector<DecisionRow>& decisions) {
    const auto say = [](std::uint64_t bytes) { return bytes == 0 ? "not bound" : formatByteSize(bytes); };
    std::string text;
    for (const auto& decision : decisions)
        text += decision.uuid.empty()
                    ? fmt::format("{}  host: {}\n", timeText(decision.time), decision.reason)
                    : fmt::format("{}  {} -> {}: {}\n", timeText(decision.time), say(decision.before),
                                  say(decision.after), decision.reason);
    return text;
}

std::string historyCsv(const std::vector<HistorySample>& samples) {
    std::vector<std::string> names{"time", "span"};
    const auto all = toJson(HistorySample{});
    for (const auto& [name, value] : all.items())
        if (name != "time" && name != "span") names.push_back(name);
    std::string text = fmt::format("{}\n", fmt::join(names, ","));
    for (const auto& sample : samples) {
        const auto json = toJson(sample);
        std::vector<std::string> row;
        row.reserve(names.size());
        for (const auto& name : names)
            row.push_back(json.at(name).dump());
        text += fmt::format("{}\n", fmt::join(row, ","));
    }
    return text;
}

}  // namespace thermocline::cli
