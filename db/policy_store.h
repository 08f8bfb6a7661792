// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "db/database.h"

namespace thermocline::db {

/// Looking for cold memory without a limit that asks for it.
struct ProactivePolicy {
    double maxStall = 0;                 ///< share of time that the guest may lose to it; 0 = off
    std::uint64_t minResidentBytes = 0;  ///< stays in memory, however cold
    bool operator==(const ProactivePolicy&) const = default;
};

/// What the daemon was told to do with a domain.
struct Policy {
    bool managed = false;          ///< attach whenever the domain runs
    std::uint64_t limitBytes = 0;  ///< hard limit to apply once attached; 0 = none
    ProactivePolicy proactive{};   ///< to apply once attached
    /// The domain's XML metadata does not say the same yet: it has to be written before it is read again.
    bool metadataDue = false;
    /// Nobody asked for it, a rule for new domains did (daemon/domain_rules.h): it may change with the rules.
    bool byRule = false;
    /// Of what the host's budget has, it gets its part in this proportion: 1 to 1000 (daemon/arbiter.h).
    std::uint32_t priority = 100;
    /// Once its guest has been paused for so many seconds all of its memory may go; 0 = it stays.
    std::uint32_t freezePausedSeconds = 0;
    bool operator==(const Policy&) const = default;
};

/// The wall clock as far as the database needs it, a seam for tests.
using Clock = std::function<std::chrono::sys_seconds()>;
std::chrono::sys_seconds systemNow();

/// Policies by domain UUID (lower case with dashes). What save() returned for is on disk;
/// on an error the former policy still holds. Belongs to the thread of its Database.
class PolicyStore {
  public:
    explicit PolicyStore(Database& database, Clock clock = systemNow);

    /// No row: the default Policy, which leaves the domain alone.
    Result<Policy> load(const std::string& uuid);
    /// `name` is kept for people who look into the file, and for history of domains that are gone.
    Result<void> save(const std::string& uuid, const std::string& name, const Policy& policy);
    /// Whether anything was ever saved for it.
    Result<bool> known(const std::string& uuid);
    /// UUIDs of all domains with `managed` set.
    Result<std::vector<std::string>> managed();
    /// The name that the domain had when it was last saved.
    Result<std::optional<std::string>> lastName(const std::string& uuid);

  private:
    Database& database_;
    Clock clock_;
};

}  // namespace thermocline::db
