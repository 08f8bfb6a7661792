// SPDX-License-Identifier: Apache-2.0
#include "db/database.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "db/policy_store.h"
#include "db/schema.h"
#include "db/testing/temporary_directory.h"

namespace thermocline::db {
namespace {

using ::testing::HasSubstr;

class DatabaseTest : public ::testing::Test {
  protected:
    /// Writes a database with SQLite itself, without any of our code.
    void write(const std::string& sql) const {
        sqlite3* raw = nullptr;
        ASSERT_EQ(sqlite3_open(file().c_str(), &raw), SQLITE_OK);
        ASSERT_EQ(sqlite3_exec(raw, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
            << sqlite3_errmsg(raw);
        ASSERT_EQ(sqlite3_close(raw), SQLITE_OK);
    }
    [[nodiscard]] std::int64_t number(const char* sql) const {
        sqlite3* raw = nullptr;
        EXPECT_EQ(sqlite3_open(file().c_str(), &raw), SQLITE_OK);
        std::int64_t value = -1;
        {
            auto statement = Statement::prepare(raw, sql);
            EXPECT_TRUE(statement && statement->step().value());
            if (statement) value = statement->column(0);
        }
        sqlite3_close(raw);
        return value;
    }
    void expectRefused(const std::string& words) const {
        const auto database = Database::open(file());
        ASSERT_FALSE(database);
        EXPECT_EQ(database.error().code, ErrorCode::databaseError);
        EXPECT_THAT(database.error().message, HasSubstr(words));
        EXPECT_THAT(database.error().message, HasSubstr(file().string()));
    }
    [[nodiscard]] std::filesystem::path file() const { return directory_.path() / "thermocline.db"; }

    thermocline::testing::TemporaryDirectory directory_;
};

TEST_F(DatabaseTest, makesANewFileOfThisSchemaForRootOnly) {
    ASSERT_TRUE(Database::open(file()));
    EXPECT_EQ(number("PRAGMA user_version"), Database::schemaVersion);
    EXPECT_EQ(
        number(
            "SELECT count(*) FROM sqlite_schema WHERE name IN ('domain', 'history_raw', 'history_minute')"),
        3);
    struct stat info {};
    ASSERT_EQ(::stat(file().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0600U);
}

TEST_F(DatabaseTest, bringsVersion1Forward) {
    write(
        "CREATE TABLE domain (id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE,"
        " managed INTEGER NOT NULL DEFAULT 0 CHECK (managed IN (0, 1)), limit_bytes INTEGER NOT NULL DEFAULT "
        "0,"
        " updated_at INTEGER NOT NULL) STRICT;"
        "INSERT INTO domain VALUES (7, 'aaaa', 1, 536870912, 1700000000);"
        "PRAGMA user_version = 1");
    auto database = Database::open(file());
    ASSERT_TRUE(database) << database.error().message;
    PolicyStore policies(*database);
    EXPECT_EQ(policies.load("aaaa").value(), (Policy{true, 536870912}));
    EXPECT_EQ(policies.lastName("aaaa").value(), "");
    EXPECT_EQ(number("PRAGMA user_version"), Database::schemaVersion);
    EXPECT_EQ(number("SELECT count(*) FROM history_minute"), 0);
}

TEST_F(DatabaseTest, bringsVersion2ForwardAndKeepsItsRows) {
    // As the steps of then made it, and as a daemon of then filled it.
    write(std::string(migrations[0]) + migrations[1] +
          "INSERT INTO domain VALUES (7, 'aaaa', 1, 536870912, 1700000000, 'web');"
          "INSERT INTO domain VALUES (9, 'bbbb', 0, 0, 1700000001, 'db');"
          "INSERT INTO history_minute VALUES (7, 1700000000, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, "
          "0.5);"
          "PRAGMA user_version = 2");
    auto database = Database::open(file());
    ASSERT_TRUE(database) << database.error().message;
    PolicyStore policies(*database);
    EXPECT_EQ(policies.load("aaaa").value(), (Policy{true, 536870912, {0, 0}}));
    EXPECT_EQ(policies.load("bbbb").value(), Policy{});
    EXPECT_EQ(policies.lastName("bbbb").value(), "db");
    EXPECT_EQ(number("PRAGMA user_version"), Database::schemaVersion);
    EXPECT_EQ(number("SELECT sum(stall_ns) FROM history_minute WHERE domain_id = 7"), 14);
    EXPECT_EQ(number("SELECT max(frozen) + max(frozen_faults) FROM history_minute WHERE domain_id = 7"), 0);
    // And it can be told now what it could not be told then.
    ASSERT_TRUE(policies.save("aaaa", "web", {true, 536870912, {0.005, 64 << 20}}));
    EXPECT_EQ(number("SELECT id FROM domain WHERE proactive_max_stall = 0.005"), 7);
    EXPECT_EQ(number("SELECT min_resident_bytes FROM domain WHERE id = 7"), 64 << 20);
}

TEST_F(DatabaseTest, aFailedMigrationLeavesTheFileAsItWas) {
    write(
        "CREATE TABLE domain (id INTEGER PRIMARY KEY, uuid TEXT);"
        "CREATE TABLE history_minute (something TEXT); PRAGMA user_version = 1");
    EXPECT_FALSE(Database::open(file()));
    EXPECT_EQ(number("PRAGMA user_version"), 1);
    EXPECT_EQ(number("SELECT count(*) FROM sqlite_schema WHERE name = 'history_raw'"), 0);
    EXPECT_EQ(number("SELECT count(*) FROM pragma_table_info('domain') WHERE name = 'name'"), 0);
}

TEST_F(DatabaseTest, opensTwiceWithoutMigratingAgain) {
    {
        auto database = Database::open(file());
        ASSERT_TRUE(database);
        ASSERT_TRUE(PolicyStore(*database).save("aaaa", "vm", {true, 5}));
    }
    auto database = Database::open(file());
    ASSERT_TRUE(database);
    EXPECT_EQ(PolicyStore(*database).load("aaaa").value(), (Policy{true, 5}));
}

TEST_F(DatabaseTest, refusesANewerSchema) {
    write("PRAGMA user_version = 99");
    expectRefused("written by a newer thermoclined (schema 99");
}

TEST_F(DatabaseTest, refusesWhatIsNoDatabase) {
    std::ofstream(file()) << std::string(8192, 'x');
    expectRefused("move the file aside");
}

TEST_F(DatabaseTest, refusesADamagedDatabase) {
    {
        auto database = Database::open(file());
        ASSERT_TRUE(database);
        ASSERT_TRUE(database->transaction([&]() -> Result<void> {
            PolicyStore policies(*database);
            for (int i = 0; i < 2000; ++i)
                THERMOCLINE_TRY(policies.save(std::to_string(i), "vm", {}));
            return {};
        }));
    }
    const auto size = std::filesystem::file_size(file());
    ASSERT_GT(size, 64U * 1024);
    std::fstream stream(file(), std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(size / 2));
    stream << std::string(16384, '\xff');
    stream.close();
    expectRefused("move the file aside");
}

TEST_F(DatabaseTest, refusesAReadOnlyFileEvenAsRoot) {
    ASSERT_TRUE(Database::open(file()));
    ASSERT_EQ(::chmod(file().c_str(), 0444), 0);
    expectRefused("read-only by its mode 0444");
}

TEST_F(DatabaseTest, refusesAFileThatTheSystemDoesNotLetItWrite) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody who may not write";
    ASSERT_TRUE(Database::open(file()));
    ASSERT_EQ(::chmod(file().c_str(), 0644), 0);
    ASSERT_EQ(::chmod(directory_.path().c_str(), 0777), 0);
    ASSERT_EQ(::seteuid(65534), 0);
    const auto database = Database::open(file());
    ASSERT_EQ(::seteuid(0), 0);
    ASSERT_FALSE(database);
    EXPECT_EQ(database.error().code, ErrorCode::databaseError);
    EXPECT_THAT(database.error().message, HasSubstr("writable"));
}

TEST_F(DatabaseTest, refusesAMissingDirectoryAndADirectory) {
    const auto missing = Database::open(directory_.path() / "none" / "thermocline.db");
    ASSERT_FALSE(missing);
    EXPECT_THAT(missing.error().message, HasSubstr("there is no directory"));
    std::filesystem::create_directory(file());
    expectRefused("not a regular file");
}

TEST_F(DatabaseTest, aFullDatabaseFailsTheRequestAndKeepsTheOldPolicy) {
    auto database = Database::open(file());
    ASSERT_TRUE(database);
    PolicyStore policies(*database);
    ASSERT_TRUE(policies.save("aaaa", "vm", {true, 7}));
    ASSERT_TRUE(database->execute("PRAGMA max_page_count = 1"));  // rounds up to the pages in use
    const auto saved = policies.save("bbbb", std::string(100000, 'n'), {true, 9});
    ASSERT_FALSE(saved);
    EXPECT_EQ(saved.error().code, ErrorCode::databaseError);
    EXPECT_THAT(saved.error().message, HasSubstr("free space"));
    EXPECT_EQ(policies.load("aaaa").value(), (Policy{true, 7}));
    EXPECT_EQ(policies.load("bbbb").value(), Policy{});
}

TEST_F(DatabaseTest, aTransactionIsAllOrNothing) {
    auto database = Database::open(file());
    ASSERT_TRUE(database);
    PolicyStore policies(*database);
    const auto done = database->transaction([&]() -> Result<void> {
        THERMOCLINE_TRY(policies.save("aaaa", "vm", {true, 1}));
        return fail(ErrorCode::internal, "stop here");
    });
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().message, "stop here");
    EXPECT_EQ(policies.load("aaaa").value(), Policy{});
    EXPECT_TRUE(database->transaction([&] { return policies.save("aaaa", "vm", {true, 1}); }));
    EXPECT_EQ(policies.load("aaaa").value(), (Policy{true, 1}));
}

TEST_F(DatabaseTest, aLockedDatabaseIsAnErrorNotAWaitForEver) {
    auto database = Database::open(file());
    auto other = Database::open(file());
    ASSERT_TRUE(database && other);
    ASSERT_TRUE(other->execute("BEGIN IMMEDIATE"));
    const auto saved = PolicyStore(*database).save("aaaa", "vm", {});
    ASSERT_FALSE(saved);
    EXPECT_THAT(saved.error().message, HasSubstr("another process holds it locked"));
}

}  // namespace
}  // namespace thermocline::db
