// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

namespace thermocline::db {

/// Step N brings a file from schema version N to N + 1. A step that was released is never
/// changed; a new one is added. Figures: sizes in bytes, times in seconds since the Unix
/// epoch. Levels are averages over the row's span, counters are what happened within it.
inline constexpr std::array migrations{
    // 0 -> 1: what is to be done with each domain. Rows are keyed by a
    // small integer because history refers to them many thousand times.
    R"sql(
CREATE TABLE domain (
    id          INTEGER PRIMARY KEY,
    uuid        TEXT    NOT NULL UNIQUE,
    managed     INTEGER NOT NULL DEFAULT 0 CHECK (managed IN (0, 1)),
    limit_bytes INTEGER NOT NULL DEFAULT 0,
    updated_at  INTEGER NOT NULL
) STRICT;
)sql",
    // 1 -> 2: history, and the name that a domain had when it was last seen.
    R"sql(
ALTER TABLE domain ADD COLUMN name TEXT NOT NULL DEFAULT '';
CREATE TABLE history_raw (
    domain_id INTEGER NOT NULL REFERENCES domain (id) ON DELETE CASCADE,
    time INTEGER NOT NULL,
    memory REAL NOT NULL, resident REAL NOT NULL, staged REAL NOT NULL, cold REAL NOT NULL, store REAL NOT NULL,
    metadata REAL NOT NULL, used REAL NOT NULL, mem_limit REAL NOT NULL,
    faults INTEGER NOT NULL, staged_faults INTEGER NOT NULL, cold_faults INTEGER NOT NULL,
    zero_faults INTEGER NOT NULL, evicted_pages INTEGER NOT NULL, stall_ns INTEGER NOT NULL,
    stall_ratio_max REAL NOT NULL,
    PRIMARY KEY (domain_id, time)
) STRICT, WITHOUT ROWID;
CREATE TABLE history_minute (
    domain_id INTEGER NOT NULL REFERENCES domain (id) ON DELETE CASCADE,
    time INTEGER NOT NULL,
    memory REAL NOT NULL, resident REAL NOT NULL, staged REAL NOT NULL, cold REAL NOT NULL, store REAL NOT NULL,
    metadata REAL NOT NULL, used REAL NOT NULL, mem_limit REAL NOT NULL,
    faults INTEGER NOT NULL, staged_faults INTEGER NOT NULL, cold_faults INTEGER NOT NULL,
    zero_faults INTEGER NOT NULL, evicted_pages INTEGER NOT NULL, stall_ns INTEGER NOT NULL,
    stall_ratio_max REAL NOT NULL,
    PRIMARY KEY (domain_id, time)
) STRICT, WITHOUT ROWID;
CREATE INDEX history_raw_time ON history_raw (time);
CREATE INDEX history_minute_time ON history_minute (time);
CREATE TABLE history_progress (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    rolled_up_to INTEGER NOT NULL
) STRICT;
)sql",
    // 2 -> 3: the proactive policy. The manager is the judge of ranges, so nothing is checked here.
    R"sql(
ALTER TABLE domain ADD COLUMN proactive_max_stall REAL NOT NULL DEFAULT 0;
ALTER TABLE domain ADD COLUMN min_resident_bytes INTEGER NOT NULL DEFAULT 0;
)sql",
    // 3 -> 4: whether the policy has still to be written into the domain's XML metadata.
    R"sql(
ALTER TABLE domain ADD COLUMN metadata_due INTEGER NOT NULL DEFAULT 0 CHECK (metadata_due IN (0, 1));
)sql",
    // 4 -> 5: whether a rule for new domains is all that the policy rests on.
    R"sql(
ALTER TABLE domain ADD COLUMN by_rule INTEGER NOT NULL DEFAULT 0 CHECK (by_rule IN (0, 1));
)sql",
    // 5 -> 6: the file tier in the history.
    R"sql(
ALTER TABLE history_raw ADD COLUMN frozen REAL NOT NULL DEFAULT 0;
ALTER TABLE history_raw ADD COLUMN frozen_faults INTEGER NOT NULL DEFAULT 0;
ALTER TABLE history_minute ADD COLUMN frozen REAL NOT NULL DEFAULT 0;
ALTER TABLE history_minute ADD COLUMN frozen_faults INTEGER NOT NULL DEFAULT 0;
)sql",
    // 6 -> 7: the host's budget, each domain's part in it, and what was decided about it. Decisions name
    // domains
    // by uuid: they may be about the host, whose uuid is empty, and outlive a domain.
    R"sql(
ALTER TABLE domain ADD COLUMN priority INTEGER NOT NULL DEFAULT 100 CHECK (priority BETWEEN 1 AND 1000);
CREATE TABLE host_budget (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    bytes INTEGER NOT NULL, share REAL NOT NULL, keep_free INTEGER NOT NULL
) STRICT;
CREATE TABLE decision (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    uuid TEXT NOT NULL,
    before_bytes INTEGER NOT NULL, after_bytes INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX decision_time ON decision (time);
)sql",
    // 7 -> 8: for how long a domain is paused before its memory goes.
    R"sql(
ALTER TABLE domain ADD COLUMN freeze_paused_seconds INTEGER NOT NULL DEFAULT 0;
)sql",
};

}  // namespace thermocline::db
