// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/error.h"

namespace thermocline::db {

/// One prepared SQL statement, finalized with the object. Values are bound by position from 1,
/// columns read from 0, as in SQLite's own interface. Errors are databaseError with SQLite's
/// text and the statement. Belongs to the thread of its Database; must not outlive it.
class Statement {
  public:
    static Result<Statement> prepare(sqlite3* database, std::string_view sql);

    Statement& bind(int position, std::int64_t value);
    /// SQLite has no unsigned 64-bit integer: the bits are kept, and columnUnsigned gives the value back.
    Statement& bind(int position, std::uint64_t value);
    Statement& bind(int position, double value);
    Statement& bind(int position, std::string_view value);

    /// True: a row is there to be read. False: the statement is done (and was reset for the next use).
    Result<bool> step();
    /// For statements that return no rows: runs to the end and resets.
    Result<void> run();

    [[nodiscard]] std::int64_t column(int index) const;
    [[nodiscard]] std::uint64_t columnUnsigned(int index) const;
    [[nodiscard]] double columnReal(int index) const;
    [[nodiscard]] std::string columnText(int index) const;

  private:
    explicit Statement(sqlite3_stmt* handle) : handle_(handle) {}
    void note(int status);

    struct Finalize {
        void operator()(sqlite3_stmt* handle) const { sqlite3_finalize(handle); }
    };
    std::unique_ptr<sqlite3_stmt, Finalize> handle_;
    int bindStatus_ = SQLITE_OK;  ///< first failed bind, reported by step()
};

/// databaseError for `status` of `database`: what was being
/// done, SQLite's words, and what to do where that is known.
tl::unexpected<Error> failSqlite(sqlite3* database, int status, std::string_view doing);

}  // namespace thermocline::db
