// SPDX-License-Identifier: Apache-2.0
#include "db/database.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <charconv>

#include "db/schema.h"

namespace thermocline::db {
namespace {

static_assert(migrations.size() == Database::schemaVersion);

// Requests wait on the daemon's core thread, so a locked file must fail soon rather than stop everything.
constexpr int busyTimeoutMilliseconds = 1000;

Result<void> checkFile(const std::filesystem::path& file) {
    struct stat info {};
    const auto directory = file.parent_path();
    if (::stat(directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
        return fail(ErrorCode::databaseError,
                    fmt::format("database {}: there is no directory {}; create it, mode 0700", file.string(),
                                directory.string()));
    if (::stat(file.c_str(), &info) != 0) return {};  // a new one will be made
    if (!S_ISREG(info.st_mode))
        return fail(ErrorCode::databaseError, fmt::format("database {}: not a regular file", file.string()));
    if ((info.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH)) == 0)
        return fail(ErrorCode::databaseError,
                    fmt::format("database {}: read-only by its mode {:04o}; chmod 0600 it", file.string(),
                                info.st_mode & 07777U));
    return {};
}

}  // namespace

Result<Database> Database::open(const std::filesystem::path& file) {
    THERMOCLINE_TRY(checkFile(file));
    sqlite3* raw = nullptr;
    const int status = sqlite3_open_v2(
        file.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    Handle handle(raw);
    if (status != SQLITE_OK) return failSqlite(handle.get(), status, "open");
    Database database(std::move(handle));
    THERMOCLINE_TRY(database.configure());
    THERMOCLINE_TRY(database.check());
    THERMOCLINE_TRY(database.migrate());
    ::chmod(file.c_str(), S_IRUSR | S_IWUSR);  // names and habits of VMs are nobody else's business
    return database;
}

Result<void> Database::execute(const char* sql) {
    const int status = sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr);
    if (status != SQLITE_OK) return failSqlite(handle_.get(), status, sql);
    return {};
}

Result<void> Database::transaction(const std::function<Result<void>()>& work) {
    THERMOCLINE_TRY(execute("BEGIN IMMEDIATE"));
    auto done = work();
    if (done) done = execute("COMMIT");
    // SQLite rolls back some failures by itself; then there is nothing left to do here.
    if (!done && sqlite3_get_autocommit(handle_.get()) == 0)
        sqlite3_exec(handle_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    return done;
}

Result<std::string> Database::pragma(std::string_view sql) {
    auto statement = prepare(sql);
    if (!statement) return tl::unexpected<Error>(statement.error());
    const auto row = statement->step();
    if (!row) return tl::unexpected<Error>(row.error());
    return *row ? statement->columnText(0) : std::string();
}

Result<void> Database::configure() {
    sqlite3_busy_timeout(handle_.get(), busyTimeoutMilliseconds);
    sqlite3_extended_result_codes(handle_.get(), 1);
    // SQLite opens a file that it may not write as read-only without a word.
    if (sqlite3_db_readonly(handle_.get(), "main") == 1)
        return failSqlite(handle_.get(), SQLITE_READONLY, "open for writing");
    const auto journal = pragma("PRAGMA journal_mode = WAL");
    if (!journal) return tl::unexpected<Error>(journal.error());
    if (*journal != "wal")
        return fail(ErrorCode::databaseError,
                    fmt::format("database {}: its file system cannot do WAL (got {})",
                                sqlite3_db_filename(handle_.get(), "main"), *journal));
    // NORMAL: a power cut may lose the last transactions, but never the file.
    return execute("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON");
}

Result<void> Database::check() {
    const auto verdict = pragma("PRAGMA quick_check(1)");
    if (!verdict) return tl::unexpected<Error>(verdict.error());
    if (*verdict == "ok") return {};
    return fail(
        ErrorCode::databaseError,
        fmt::format(
            "database {}: damaged ({}); move the file aside to start with an empty one, or restore a copy",
            sqlite3_db_filename(handle_.get(), "main"), *verdict));
}

Result<void> Database::migrate() {
    const auto text = pragma("PRAGMA user_version");
    if (!text) return tl::unexpected<Error>(text.error());
    int version = 0;
    std::from_chars(text->data(), text->data() + text->size(), version);
    if (version < 0 || version > schemaVersion)
        return fail(
            ErrorCode::databaseError,
            fmt::format("database {}: written by a newer thermoclined (schema {}, this one knows {}); "
                        "install that version, or move the file aside",
                        sqlite3_db_filename(handle_.get(), "main"), version, schemaVersion));
    for (; version < schemaVersion; ++version) {
        auto migrated = transaction([&]() -> Result<void> {
            THERMOCLINE_TRY(execute(migrations.at(static_cast<std::size_t>(version))));
            return execute(fmt::format("PRAGMA user_version = {}", version + 1).c_str());
        });
        if (!migrated) return migrated;
    }
    return {};
}

}  // namespace thermocline::db
