// SPDX-License-Identifier: Apache-2.0
#include "db/statement.h"

#include <fmt/format.h>

#include <bit>

namespace thermocline::db {
namespace {

std::string_view advice(int status) {
    switch (status & 0xff) {  // the primary code; the rest of the bits are details
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return "; move the file aside to start with an empty one, or restore a copy";
        case SQLITE_READONLY:
        case SQLITE_PERM:
        case SQLITE_CANTOPEN:
            return "; check that file and directory exist and are writable by root";
        case SQLITE_FULL:
            return "; free space on its file system";
        case SQLITE_BUSY:
            return "; another process holds it locked";
        default:
            return "";
    }
}

}  // namespace

tl::unexpected<Error> failSqlite(sqlite3* database, int status, std::string_view doing) {
    const char* const file = database != nullptr ? sqlite3_db_filename(database, "main") : nullptr;
    const char* const text = database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(status);
    return fail(ErrorCode::databaseError, fmt::format("database {}: {}: {}{}", file != nullptr ? file : "",
                                                      doing, text, advice(status)));
}

Result<Statement> Statement::prepare(sqlite3* database, std::string_view sql) {
    sqlite3_stmt* handle = nullptr;
    const int status =
        sqlite3_prepare_v2(database, sql.data(), static_cast<int>(sql.size()), &handle, nullptr);
    if (status != SQLITE_OK) return failSqlite(database, status, sql);
    return Statement(handle);
}

void Statement::note(int status) {
    if (bindStatus_ == SQLITE_OK) bindStatus_ = status;
}

Statement& Statement::bind(int position, std::int64_t value) {
    note(sqlite3_bind_int64(handle_.get(), position, value));
    return *this;
}

Statement& Statement::bind(int position, std::uint64_t value) {
    return bind(position, std::bit_cast<std::int64_t>(value));
}

Statement& Statement::bind(int position, double value) {
    note(sqlite3_bind_double(handle_.get(), position, value));
    return *this;
}

Statement& Statement::bind(int position, std::string_view value) {
    note(sqlite3_bind_text(handle_.get(), position, value.data(), static_cast<int>(value.size()),
                           SQLITE_TRANSIENT));
    return *this;
}

Result<bool> Statement::step() {
    sqlite3* const database = sqlite3_db_handle(handle_.get());
    const int status = bindStatus_ == SQLITE_OK ? sqlite3_step(handle_.get()) : bindStatus_;
    if (status == SQLITE_ROW) return true;
    if (status == SQLITE_DONE) {
        sqlite3_reset(handle_.get());
        return false;
    }
    // The error is read before the reset, which would replace it.
    auto error = failSqlite(database, status, sqlite3_sql(handle_.get()));
    sqlite3_reset(handle_.get());
    bindStatus_ = SQLITE_OK;
    return error;
}

Result<void> Statement::run() {
    while (true) {
        const auto row = step();
        if (!row) return tl::unexpected<Error>(row.error());
        if (!*row) return {};
    }
}

std::int64_t Statement::column(int index) const {
    return sqlite3_column_int64(handle_.get(), index);
}
std::uint64_t Statement::columnUnsigned(int index) const {
    return std::bit_cast<std::uint64_t>(column(index));
}
double Statement::columnReal(int index) const {
    return sqlite3_column_double(handle_.get(), index);
}

std::string Statement::columnText(int index) const {
    const auto* const text = sqlite3_column_text(handle_.get(), index);
    return text == nullptr
               ? std::string()
               : std::string(reinterpret_cast<const char*>(text),
                             static_cast<std::size_t>(sqlite3_column_bytes(handle_.get(), index)));
}

}  // namespace thermocline::db
