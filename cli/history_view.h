// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a domain's memory did, over time: as sparklines, as a table, as CSV, as JSON. Times are seconds since
// the epoch, and are said in local time. Plain functions; any thread.

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/client.h"
#include "cli/output.h"
#include "common/error.h"

namespace thermocline::cli {

/// Samples of equal steps of time from `begin` on; none where nothing is known of a step.
struct HistoryView {
    std::string domain;  ///< its name
    std::uint64_t begin = 0;
    std::uint32_t step = 1;  ///< seconds
    std::vector<std::optional<HistorySample>> samples;
};

/// A moment, as journalctl takes it: how long before `now` ("15m", "-15m"), "2026-11-24", "2026-11-24 14:30",
/// "2026-11-24 14:30:05", "14:30" or "14:30:05" of today, "now", "today", "yesterday". invalidArgument.
Result<std::chrono::sys_seconds> parseTime(std::string_view text, std::chrono::sys_seconds now);

/// The shortest of 1, 2, 5, 10, 15, 30 s, the same in minutes, 1, 2, 3, 6, 12 h, or whole days, of which
/// no more than `columns` make up `length`. REQUIRES: columns > 0.
std::chrono::seconds stepFor(std::chrono::seconds length, std::size_t columns);

/// Samples (oldest first) merged into the steps from `since` to `until` that they began in: levels averaged
/// by time, counters summed, the highest stall kept. Steps begin at multiples of themselves. REQUIRES: step >
/// 0.
HistoryView historyView(std::string domain, const std::vector<HistorySample>& samples,
                        std::chrono::sys_seconds since, std::chrono::sys_seconds until,
                        std::chrono::seconds step);

/// One line of a column per step for each of resident, staged, cold, frozen, used, stall and faults, with
/// its lowest, last and highest value.
std::string historyText(const HistoryView& view, const Style& style);
/// A row per step that something is known of.
std::string historyTable(const HistoryView& view, const Style& style);
/// A line of names, those of the JSON (time and span first), and one per sample.
std::string historyCsv(const std::vector<HistorySample>& samples);

/// A line per decision about the domain, or the host: when, from what to what, and why. "" for none.
std::string decisionsText(const std::vector<DecisionRow>& decisions);
/// Those of the view's samples that there are.
std::vector<HistorySample> knownSamples(const HistoryView& view);
/// "2026-11-24 14:30:05"
std::string timeText(std::uint64_t time);

}  // namespace thermocline::cli
