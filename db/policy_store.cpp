// SPDX-License-Identifier: Apache-2.0
#include "db/policy_store.h"

#include <utility>

namespace thermocline::db {

std::chrono::sys_seconds systemNow() {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

PolicyStore::PolicyStore(Database& database, Clock clock) : database_(database), clock_(std::move(clock)) {}

Result<Policy> PolicyStore::load(const std::string& uuid) {
    auto query = database_.prepare(
        "SELECT managed, limit_bytes, proactive_max_stall, min_resident_bytes, metadata_due, by_rule, "
        "priority, freeze_paused_seconds FROM domain "
        "WHERE uuid = ?");
    if (!query) return tl::unexpected<Error>(query.error());
    const auto row = query->bind(1, uuid).step();
    if (!row) return tl::unexpected<Error>(row.error());
    if (!*row) return Policy{};
    return Policy{query->column(0) != 0,
                  query->columnUnsigned(1),
                  {query->columnReal(2), query->columnUnsigned(3)},
                  query->column(4) != 0,
                  query->column(5) != 0,
                  static_cast<std::uint32_t>(query->column(6)),
                  static_cast<std::uint32_t>(query->column(7))};
}

Result<void> PolicyStore::save(const std::string& uuid, const std::string& name, const Policy& policy) {
    auto upsert = database_.prepare(
        "INSERT INTO domain (uuid, name, managed, limit_bytes, updated_at, proactive_max_stall, "
        "min_resident_bytes, metadata_due, by_rule, priority, freeze_paused_seconds) VALUES (?1, ?2, ?3, ?4, "
        "?5, ?6, ?7, ?8, ?9, ?10, ?11) "
        "ON CONFLICT (uuid) DO UPDATE SET name = ?2, managed = ?3, limit_bytes = ?4, updated_at = ?5, "
        "proactive_max_stall = ?6, min_resident_bytes = ?7, metadata_due = ?8, by_rule = ?9, priority = ?10, "
        "freeze_paused_seconds = ?11");
    if (!upsert) return tl::unexpected<Error>(upsert.error());
    return upsert->bind(1, uuid)
        .bind(2, name)
        .bind(3, std::int64_t{policy.managed})
        .bind(4, policy.limitBytes)
        .bind(5, std::int64_t{clock_().time_since_epoch().count()})
        .bind(6, policy.proactive.maxStall)
        .bind(7, policy.proactive.minResidentBytes)
        .bind(8, std::int64_t{policy.metadataDue})
        .bind(9, std::int64_t{policy.byRule})
        .bind(10, std::int64_t{policy.priority})
        .bind(11, std::int64_t{policy.freezePausedSeconds})
        .run();
}

Result<bool> PolicyStore::known(const std::string& uuid) {
    auto query = database_.prepare("SELECT 1 FROM domain WHERE uuid = ?");
    if (!query) return tl::unexpected<Error>(query.error());
    return query->bind(1, uuid).step();
}

Result<std::vector<std::string>> PolicyStore::managed() {
    auto query = database_.prepare("SELECT uuid FROM domain WHERE managed = 1 ORDER BY uuid");
    if (!query) return tl::unexpected<Error>(query.error());
    std::vector<std::string> uuids;
    while (true) {
        const auto row = query->step();
        if (!row) return tl::unexpected<Error>(row.error());
        if (!*row) return uuids;
        uuids.push_back(query->columnText(0));
    }
}

Result<std::optional<std::string>> PolicyStore::lastName(const std::string& uuid) {
    auto query = database_.prepare("SELECT name FROM domain WHERE uuid = ?");
    if (!query) return tl::unexpected<Error>(query.error());
    const auto row = query->bind(1, uuid).step();
    if (!row) return tl::unexpected<Error>(row.error());
    if (!*row) return std::optional<std::string>{};
    return std::optional{query->columnText(0)};
}

}  // namespace thermocline::db
