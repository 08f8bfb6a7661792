// SPDX-License-Identifier: Apache-2.0

// SQLite with its file on tmpfs: all of it is in the guest's memory.

#include <sqlite3.h>

#include "database.h"
#include "record.h"

static sqlite3* file;
static sqlite3_stmt *select_record, *update_record;

static int failed(const char* what) {
    return database_fail("sqlite: %s: %s", what, sqlite3_errmsg(file));
}

static int prepare(const char* text, sqlite3_stmt** statement) {
    return sqlite3_prepare_v2(file, text, -1, statement, NULL) == SQLITE_OK ? 0 : failed(text);
}

static int insert_all(uint64_t count) {
    sqlite3_stmt* insert;
    if (prepare("INSERT INTO records VALUES (?, ?)", &insert)) return -1;
    char record[RECORD_BYTES];
    for (uint64_t key = 0; key < count; key++) {
        record_write(record, key, 0);
        sqlite3_bind_int64(insert, 1, (sqlite3_int64)key);
        sqlite3_bind_text(insert, 2, record, RECORD_BYTES, SQLITE_STATIC);
        if (sqlite3_step(insert) != SQLITE_DONE) return failed("insert");
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    return 0;
}

static int fill(uint64_t count) {
    if (sqlite3_open("/tmp/records.sqlite", &file) != SQLITE_OK) return failed("open");
    // No disk: nothing to synchronise. A small cache, so that a record is in memory once.
    static const char setup[] =
        "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA cache_size = -2048;"
        "CREATE TABLE records (key INTEGER PRIMARY KEY, record TEXT); BEGIN";
    if (sqlite3_exec(file, setup, NULL, NULL, NULL) != SQLITE_OK) return failed("setup");
    if (insert_all(count)) return -1;
    if (sqlite3_exec(file, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) return failed("commit");
    return prepare("SELECT record FROM records WHERE key = ?", &select_record) ||
                   prepare("UPDATE records SET record = ? WHERE key = ?", &update_record)
               ? -1
               : 0;
}

static int get(uint64_t key, void (*check)(const char*, size_t, void*), void* context) {
    sqlite3_bind_int64(select_record, 1, (sqlite3_int64)key);
    const int found = sqlite3_step(select_record) == SQLITE_ROW;
    if (found)
        check((const char*)sqlite3_column_text(select_record, 0),
              (size_t)sqlite3_column_bytes(select_record, 0), context);
    else
        failed("select");
    sqlite3_reset(select_record);
    return found ? 0 : -1;
}

static int set(uint64_t key, const char* record, size_t length) {
    sqlite3_bind_text(update_record, 1, record, (int)length, SQLITE_STATIC);
    sqlite3_bind_int64(update_record, 2, (sqlite3_int64)key);
    const int done = sqlite3_step(update_record) == SQLITE_DONE;
    if (!done) failed("update");
    sqlite3_reset(update_record);
    return done ? 0 : -1;
}

const struct database sqlite_database = {"sqlite", fill, get, set, 1040};
