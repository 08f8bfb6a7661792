// SPDX-License-Identifier: Apache-2.0
#include "daemon/runtime_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <fstream>
#include <optional>

#include "db/testing/temporary_directory.h"

namespace thermocline {
namespace {

bool isTmpfs(const std::filesystem::path& path) {
    struct statfs info {};
    return ::statfs(path.c_str(), &info) == 0 && info.f_type == TMPFS_MAGIC;
}

mode_t modeOf(const std::filesystem::path& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 07777U : 0;
}

class RuntimeDirectoryTest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0 && !isTmpfs(directory_.path())) GTEST_SKIP() << "needs root to mount a tmpfs";
    }
    [[nodiscard]] std::filesystem::path path() const { return directory_.path() / "run"; }
    thermocline::testing::TemporaryDirectory directory_;
};

TEST_F(RuntimeDirectoryTest, isInMemoryAndForRootOnly) {
    {
        const auto runtime = RuntimeDirectory::open(path());
        ASSERT_TRUE(runtime) << runtime.error().message;
        EXPECT_TRUE(isTmpfs(path()));
        EXPECT_EQ(modeOf(path()), 0700U);
        EXPECT_TRUE(runtime->domains().empty());
    }
    // What it mounted it unmounted.
    EXPECT_EQ(isTmpfs(path()), isTmpfs(directory_.path()));
}

TEST_F(RuntimeDirectoryTest, keepsTheMountWhileADomainRemains) {
    const DomainRecord record{"aaaa", "vm", 42, 4242};
    const bool mounts = !isTmpfs(directory_.path());
    {
        const auto runtime = RuntimeDirectory::open(path());
        ASSERT_TRUE(runtime);
        const auto made = runtime->createDomain(record);
        ASSERT_TRUE(made);
        EXPECT_EQ(*made, path() / "domain" / "aaaa");
        EXPECT_EQ(modeOf(*made), 0700U);
    }
    EXPECT_TRUE(isTmpfs(path()));
    {
        const auto runtime = RuntimeDirectory::open(path());
        ASSERT_TRUE(runtime);
        const auto found = runtime->domains();
        ASSERT_EQ(found.size(), 1U);
        EXPECT_EQ(found[0].uuid, "aaaa");
        EXPECT_EQ(found[0].name, "vm");
        EXPECT_EQ(found[0].pid, 42);
        EXPECT_EQ(found[0].startTime, 4242U);
        ASSERT_TRUE(runtime->removeDomain("aaaa"));
        EXPECT_FALSE(std::filesystem::exists(path() / "domain" / "aaaa"));
    }
    // The second one found the mount and did not make it, so it left it.
    EXPECT_TRUE(isTmpfs(path()));
    if (mounts) {
        ASSERT_EQ(::umount(path().c_str()), 0);
    }
}

TEST_F(RuntimeDirectoryTest, aNewDomainDirectoryIsEmpty) {
    const auto runtime = RuntimeDirectory::open(path());
    ASSERT_TRUE(runtime);
    ASSERT_TRUE(runtime->createDomain({"aaaa", "vm", 1, 1}));
    std::ofstream(runtime->domainDirectory("aaaa") / "arena") << "old pages";
    ASSERT_TRUE(runtime->createDomain({"aaaa", "vm", 2, 2}));
    EXPECT_FALSE(std::filesystem::exists(runtime->domainDirectory("aaaa") / "arena"));
    EXPECT_EQ(runtime->domains().at(0).pid, 2);
    ASSERT_TRUE(runtime->removeDomain("aaaa"));
}

TEST_F(RuntimeDirectoryTest, anUnreadableRecordStillTellsTheUuid) {
    const auto runtime = RuntimeDirectory::open(path());
    ASSERT_TRUE(runtime);
    ASSERT_TRUE(runtime->createDomain({"aaaa", "vm", 1, 1}));
    std::ofstream(runtime->domainDirectory("aaaa") / "domain.json") << "{half";
    EXPECT_EQ(runtime->domains().at(0).uuid, "aaaa");
    EXPECT_EQ(runtime->domains().at(0).pid, 0);
    ASSERT_TRUE(runtime->removeDomain("aaaa"));
}

TEST_F(RuntimeDirectoryTest, belongsToOneDaemon) {
    const auto first = RuntimeDirectory::open(path());
    ASSERT_TRUE(first);
    const auto second = RuntimeDirectory::open(path());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::alreadyRunning);
    EXPECT_THAT(second.error().message, ::testing::HasSubstr(path().string()));
}

TEST_F(RuntimeDirectoryTest, refusesADirectoryThatSomebodyElsePrepared) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a directory away";
    std::filesystem::create_directory(path());
    ASSERT_EQ(::chown(path().c_str(), 65534, 65534), 0);
    const auto runtime = RuntimeDirectory::open(path());
    ASSERT_FALSE(runtime);
    EXPECT_EQ(runtime.error().code, ErrorCode::permissionDenied);
    std::filesystem::remove(path());
    std::filesystem::create_symlink("/tmp", path());
    EXPECT_FALSE(RuntimeDirectory::open(path()));
}

}  // namespace
}  // namespace thermocline
