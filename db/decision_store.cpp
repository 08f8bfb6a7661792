// SPDX-License-Identifier: Apache-2.0
#include "db/decision_store.h"

#include <algorithm>

namespace thermocline::db {
namespace {

constexpr std::chrono::seconds kept = std::chrono::hours(24 * 30);
constexpr std::int64_t mostKept = 100'000;
constexpr std::int64_t mostGiven = 10'000;  // a message of the bus has its bounds

}  // namespace

Result<void> DecisionStore::add(const std::vector<Decision>& decisions) {
    if (decisions.empty()) return {};
    return database_.transaction([&]() -> Result<void> {
        const std::int64_t now = clock_().time_since_epoch().count();
        auto insert = database_.prepare(
            "INSERT INTO decision (time, uuid, before_bytes, after_bytes, reason) VALUES (?, ?, ?, ?, ?)");
        if (!insert) return tl::unexpected<Error>(insert.error());
        for (const auto& decision : decisions)
            THERMOCLINE_TRY(insert->bind(1, now)
                                .bind(2, decision.uuid)
                                .bind(3, decision.before)
                                .bind(4, decision.after)
                                .bind(5, decision.reason)
                                .run());
        auto forget = database_.prepare(
            "DELETE FROM decision WHERE time < ? OR id <= (SELECT max(id) FROM decision) - ?");
        if (!forget) return tl::unexpected<Error>(forget.error());
        return forget->bind(1, now - std::int64_t{kept.count()}).bind(2, mostKept).run();
    });
}

Result<std::vector<Decision>> DecisionStore::query(std::chrono::sys_seconds since,
                                                   std::chrono::sys_seconds until) {
    auto query = database_.prepare(
        "SELECT time, uuid, before_bytes, after_bytes, reason FROM decision WHERE time >= ? AND time < ? "
        "ORDER BY id DESC LIMIT ?");
    if (!query) return tl::unexpected<Error>(query.error());
    query->bind(1, std::int64_t{since.time_since_epoch().count()})
        .bind(2, std::int64_t{until.time_since_epoch().count()})
        .bind(3, mostGiven);
    std::vector<Decision> decisions;
    while (true) {
        const auto row = query->step();
        if (!row) return tl::unexpected<Error>(row.error());
        if (!*row) break;
        decisions.push_back({std::chrono::sys_seconds(std::chrono::seconds(query->column(0))),
                             query->columnText(1), query->columnUnsigned(2), query->columnUnsigned(3),
                             query->columnText(4)});
    }
    std::reverse(decisions.begin(), decisions.end());
    return decisions;
}

}  // namespace thermocline::db
