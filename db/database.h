// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include "common/error.h"
#include "db/statement.h"

namespace thermocline::db {

/// The daemon's SQLite file: opened (or made), checked, and brought to the schema of this
/// version, or not opened at all. Every failure is a databaseError that names the file
/// and what to do; nothing is ever repaired or thrown away by itself. WAL mode, so a
/// reader (a backup, `sqlite3` by hand) never blocks the daemon. Belongs to one thread.
/// Movable; stores that were made from it hold its handle, so it must outlive them.
class Database {
  public:
    /// The schema that this program writes; PRAGMA user_version of the file.
    static constexpr int schemaVersion = 8;

    /// Refuses: a missing directory, a file that is no database, is damaged
    /// (quick_check), cannot be written (also by its mode: a file without any write bit
    /// is meant to be read-only, though root could write it), or has a newer schema.
    static Result<Database> open(const std::filesystem::path& file);

    /// Runs one or more statements that return nothing.
    Result<void> execute(const char* sql);
    /// All of `work` or nothing: rolls back where it returns an error or the commit fails.
    Result<void> transaction(const std::function<Result<void>()>& work);
    Result<Statement> prepare(std::string_view sql) { return Statement::prepare(handle_.get(), sql); }

  private:
    struct Close {
        void operator()(sqlite3* handle) const { sqlite3_close_v2(handle); }
    };
    using Handle = std::unique_ptr<sqlite3, Close>;

    explicit Database(Handle handle) : handle_(std::move(handle)) {}
    Result<void> configure();
    Result<void> check();
    Result<void> migrate();
    Result<std::string> pragma(std::string_view sql);

    Handle handle_;
};

}  // namespace thermocline::db
