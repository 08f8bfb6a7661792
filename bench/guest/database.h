// SPDX-License-Identifier: Apache-2.0
#pragma once

// A database as a client sees it: records by key. Each function returns 0, or -1 with database_error() set.
// Not thread-safe.

#include <stddef.h>
#include <stdint.h>

struct database {
    const char* name;
    /// Makes it, with the records of keys 0 to count - 1 at version 0.
    int (*fill)(uint64_t count);
    /// Calls `check` with the record; -1 where there is none.
    int (*get)(uint64_t key, void (*check)(const char* record, size_t length, void* context), void* context);
    int (*set)(uint64_t key, const char* record, size_t length);
    /// Bytes that one record takes in it, about: what a fill of so many bytes divides by.
    unsigned bytes_per_record;
};

extern const struct database redis_database;
extern const struct database sqlite_database;

/// A printf for what went wrong; returns -1.
int database_fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
const char* database_error(void);
