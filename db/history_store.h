// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "db/database.h"
#include "db/policy_store.h"

namespace thermocline::db {

/// What happened to one domain within `span` from `time` on. Bytes are averages over the
/// span, counters the sum within it, stallRatioMax the highest one-second ratio (0 to 1).
struct Sample {
    std::chrono::sys_seconds time{};
    std::chrono::seconds span{1};
    double memory = 0, resident = 0, staged = 0, cold = 0, store = 0, metadata = 0, used = 0, limit = 0,
           frozen = 0;
    std::uint64_t faults = 0, stagedFaults = 0, coldFaults = 0, zeroFaults = 0, evictedPages = 0,
                  stallNanoseconds = 0, frozenFaults = 0;
    double stallRatioMax = 0;
    bool operator==(const Sample&) const = default;
};

enum class Resolution { raw, minute, automatic };

struct Retention {
    std::chrono::seconds raw = std::chrono::hours(1);
    std::chrono::seconds minute = std::chrono::hours(24 * 30);
};

/// One-second samples, rolled up to minutes, both forgotten in time. A minute's row is made once,
/// after the minute is over; late samples for it are not added. Belongs to the thread of its Database.
class HistoryStore {
  public:
    explicit HistoryStore(Database& database, Retention retention = {}, Clock clock = systemNow);

    /// One transaction for all domains: (uuid, sample of one second).
    /// A second sample of the same second replaces the first.
    Result<void> add(const std::vector<std::pair<std::string, Sample>>& samples);
    /// Rolls up every minute that is over, then forgets what is
    /// older than the retention. Cheap when called each minute.
    Result<void> maintain();
    /// since <= time < until, oldest first. `automatic`: raw where it still covers `since`, else minutes.
    Result<std::vector<Sample>> query(const std::string& uuid, std::chrono::sys_seconds since,
                                      std::chrono::sys_seconds until, Resolution resolution);

  private:
    Result<std::int64_t> domainId(const std::string& uuid);
    Result<std::int64_t> rolledUpTo();

    Database& database_;
    Retention retention_;
    Clock clock_;
};

}  // namespace thermocline::db
