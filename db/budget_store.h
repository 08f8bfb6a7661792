// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "common/error.h"
#include "db/database.h"

namespace thermocline::db {

/// What all managed VMs of the host may take together: a size, or a share of the host's RAM; neither: any
/// amount.
struct HostBudget {
    std::uint64_t bytes = 0;
    double share = 0;            ///< 0 to 1
    std::uint64_t keepFree = 0;  ///< the host's available memory is not to fall below this
    [[nodiscard]] bool on() const { return bytes != 0 || share != 0; }
    bool operator==(const HostBudget&) const = default;
};

/// The budget that the daemon was told of while it ran. Belongs to the thread of its Database.
class BudgetStore {
  public:
    explicit BudgetStore(Database& database) : database_(database) {}

    /// nullopt: it was told of none, not even that there is none.
    Result<std::optional<HostBudget>> load();
    /// nullopt forgets it.
    Result<void> save(const std::optional<HostBudget>& budget);

  private:
    Database& database_;
};

}  // namespace thermocline::db
