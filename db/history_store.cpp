// SPDX-License-Identifier: Apache-2.0
#include "db/history_store.h"

#include <fmt/format.h>

#include <algorithm>

namespace thermocline::db {
namespace {

constexpr std::int64_t minuteSeconds = 60;
constexpr const char* columns =
    "memory, resident, staged, cold, store, metadata, used, mem_limit, frozen, "
    "faults, staged_faults, cold_faults, zero_faults, evicted_pages, stall_ns, frozen_faults, "
    "stall_ratio_max";

std::int64_t seconds(std::chrono::sys_seconds time) {
    return time.time_since_epoch().count();
}

Sample readSample(const Statement& row, std::chrono::seconds span) {
    Sample sample;
    sample.time = std::chrono::sys_seconds(std::chrono::seconds(row.column(0)));
    sample.span = span;
    int index = 1;
    for (double* level : {&sample.memory, &sample.resident, &sample.staged, &sample.cold, &sample.store,
                          &sample.metadata, &sample.used, &sample.limit, &sample.frozen})
        *level = row.columnReal(index++);
    for (std::uint64_t* counter :
         {&sample.faults, &sample.stagedFaults, &sample.coldFaults, &sample.zeroFaults, &sample.evictedPages,
          &sample.stallNanoseconds, &sample.frozenFaults})
        *counter = row.columnUnsigned(index++);
    sample.stallRatioMax = row.columnReal(index);
    return sample;
}

void bindSample(Statement& insert, std::int64_t domain, const Sample& sample) {
    insert.bind(1, domain).bind(2, seconds(sample.time));
    int position = 3;
    for (const double level : {sample.memory, sample.resident, sample.staged, sample.cold, sample.store,
                               sample.metadata, sample.used, sample.limit, sample.frozen})
        insert.bind(position++, level);
    for (const std::uint64_t counter :
         {sample.faults, sample.stagedFaults, sample.coldFaults, sample.zeroFaults, sample.evictedPages,
          sample.stallNanoseconds, sample.frozenFaults})
        insert.bind(position++, counter);
    insert.bind(position, sample.stallRatioMax);
}

}  // namespace

HistoryStore::HistoryStore(Database& database, Retention retention, Clock clock)
    : database_(database), retention_(retention), clock_(std::move(clock)) {}

Result<std::int64_t> HistoryStore::domainId(const std::string& uuid) {
    // A domain may have history without ever having had a policy saved (its manager was found running).
    auto make = database_.prepare("INSERT OR IGNORE INTO domain (uuid, updated_at) VALUES (?, ?)");
    if (!make) return tl::unexpected<Error>(make.error());
    THERMOCLINE_TRY(make->bind(1, uuid).bind(2, seconds(clock_())).run());
    auto query = database_.prepare("SELECT id FROM domain WHERE uuid = ?");
    if (!query) return tl::unexpected<Error>(query.error());
    const auto row = query->bind(1, uuid).step();
    if (!row) return tl::unexpected<Error>(row.error());
    return query->column(0);
}

Result<void> HistoryStore::add(const std::vector<std::pair<std::string, Sample>>& samples) {
    if (samples.empty()) return {};
    return database_.transaction([&]() -> Result<void> {
        auto insert =
            database_.prepare(fmt::format("INSERT OR REPLACE INTO history_raw (domain_id, time, {}) "
                                          "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                                          columns));
        if (!insert) return tl::unexpected<Error>(insert.error());
        for (const auto& [uuid, sample] : samples) {
            const auto id = domainId(uuid);
            if (!id) return tl::unexpected<Error>(id.error());
            bindSample(*insert, *id, sample);
            THERMOCLINE_TRY(insert->run());
        }
        return {};
    });
}

Result<std::int64_t> HistoryStore::rolledUpTo() {
    auto query = database_.prepare("SELECT rolled_up_to FROM history_progress");
    if (!query) return tl::unexpected<Error>(query.error());
    const auto row = query->step();
    if (!row) return tl::unexpected<Error>(row.error());
    return *row ? query->column(0) : 0;
}

Result<void> HistoryStore::maintain() {
    const std::int64_t now = seconds(clock_());
    const std::int64_t end = now / minuteSeconds * minuteSeconds;
    return database_.transaction([&]() -> Result<void> {
        const auto begin = rolledUpTo();
        if (!begin) return tl::unexpected<Error>(begin.error());
        // OR IGNORE: a clock that was set back must not make
        // minutes again from what is left of their samples.
        auto rollUp = database_.prepare(fmt::format(
            "INSERT OR IGNORE INTO history_minute (domain_id, time, {}) "
            "SELECT domain_id, time / 60 * 60 AS minute, avg(memory), avg(resident), avg(staged), avg(cold), "
            "avg(store),"
            " avg(metadata), avg(used), avg(mem_limit), avg(frozen), sum(faults), sum(staged_faults), "
            "sum(cold_faults),"
            " sum(zero_faults), sum(evicted_pages), sum(stall_ns), sum(frozen_faults), max(stall_ratio_max) "
            "FROM history_raw WHERE time >= ? AND time < ? GROUP BY domain_id, minute",
            columns));
        if (!rollUp) return tl::unexpected<Error>(rollUp.error());
        THERMOCLINE_TRY(rollUp->bind(1, std::min(*begin, end)).bind(2, end).run());
        auto progress = database_.prepare(
            "INSERT OR REPLACE INTO history_progress (only_row, rolled_up_to) VALUES (1, ?)");
        if (!progress) return tl::unexpected<Error>(progress.error());
        THERMOCLINE_TRY(progress->bind(1, end).run());
        for (const auto& [table, keep] :
             {std::pair{"history_raw", retention_.raw}, std::pair{"history_minute", retention_.minute}}) {
            auto forget = database_.prepare(fmt::format("DELETE FROM {} WHERE time < ?", table));
            if (!forget) return tl::unexpected<Error>(forget.error());
            THERMOCLINE_TRY(forget->bind(1, now - std::int64_t{keep.count()}).run());
        }
        return {};
    });
}

Result<std::vector<Sample>> HistoryStore::query(const std::string& uuid, std::chrono::sys_seconds since,
                                                std::chrono::sys_seconds until, Resolution resolution) {
    const bool raw = resolution == Resolution::raw ||
                     (resolution == Resolution::automatic && since >= clock_() - retention_.raw);
    auto query = database_.prepare(
        fmt::format("SELECT time, {} FROM {} WHERE domain_id = (SELECT id FROM domain WHERE uuid = ?) "
                    "AND time >= ? AND time < ? ORDER BY time",
                    columns, raw ? "history_raw" : "history_minute"));
    if (!query) return tl::unexpected<Error>(query.error());
    query->bind(1, uuid).bind(2, seconds(since)).bind(3, seconds(until));
    std::vector<Sample> samples;
    while (true) {
        const auto row = query->step();
        if (!row) return tl::unexpected<Error>(row.error());
        if (!*row) return samples;
        samples.push_back(readSample(*query, std::chrono::seconds(raw ? 1 : minuteSeconds)));
    }
}

}  // namespace thermocline::db
