// SPDX-License-Identifier: Apache-2.0
#include "db/budget_store.h"

namespace thermocline::db {

Result<std::optional<HostBudget>> BudgetStore::load() {
    auto query = database_.prepare("SELECT bytes, share, keep_free FROM host_budget");
    if (!query) return tl::unexpected<Error>(query.error());
    const auto row = query->step();
    if (!row) return tl::unexpected<Error>(row.error());
    if (!*row) return std::optional<HostBudget>{};
    return std::optional(
        HostBudget{query->columnUnsigned(0), query->columnReal(1), query->columnUnsigned(2)});
}

Result<void> BudgetStore::save(const std::optional<HostBudget>& budget) {
    if (!budget) return database_.execute("DELETE FROM host_budget");
    auto insert = database_.prepare(
        "INSERT OR REPLACE INTO host_budget (only_row, bytes, share, keep_free) VALUES (1, ?, ?, ?)");
    if (!insert) return tl::unexpected<Error>(insert.error());
    return insert->bind(1, budget->bytes).bind(2, budget->share).bind(3, budget->keepFree).run();
}

}  // namespace thermocline::db
