// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"
#include "db/database.h"
#include "db/policy_store.h"

namespace thermocline::db {

/// What the arbiter did, and why. About the host where there is no uuid; sizes are then budgets.
struct Decision {
    std::chrono::sys_seconds time{};
    std::string uuid;
    std::uint64_t before = 0;  ///< bytes; 0 = not bound
    std::uint64_t after = 0;
    std::string reason;
    bool operator==(const Decision&) const = default;
};

/// Decisions, kept for 30 days and no more than the newest 100,000. Belongs to the thread of its Database.
class DecisionStore {
  public:
    explicit DecisionStore(Database& database, Clock clock = systemNow)
        : database_(database), clock_(std::move(clock)) {}

    /// All of it or nothing, and forgets what is too old. `time` is now, whatever the decisions say.
    Result<void> add(const std::vector<Decision>& decisions);
    /// since <= time < until, oldest first; of more than 10,000 the newest.
    Result<std::vector<Decision>> query(std::chrono::sys_seconds since, std::chrono::sys_seconds until);

  private:
    Database& database_;
    Clock clock_;
};

}  // namespace thermocline::db
