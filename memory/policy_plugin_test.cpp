// SPDX-License-Identifier: Apache-2.0
#include "memory/policy_plugin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "memory/testing/policy_directory.h"

namespace thermocline::memory {
namespace {

using std::filesystem::perms;
using ::testing::HasSubstr;

class PolicyPluginTest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "policies have to be root's, and this is not root";
    }
    std::string refusal(const std::filesystem::path& file) {
        const auto loaded = PolicyPlugin::load(file, directory_.path());
        return loaded ? "" : loaded.error().message;
    }
    testing::PolicyDirectory directory_;
};

TEST_F(PolicyPluginTest, loadsTheExample) {
    const auto loaded = PolicyPlugin::load(directory_.file("window"), directory_.path());
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->name(), "window");
    EXPECT_NE(loaded->functions().tick, nullptr);
}

TEST_F(PolicyPluginTest, refusesWhatIsNoPolicyOfThisVersion) {
    EXPECT_THAT(refusal(directory_.file("no_entry")), HasSubstr("does not export thermocline_policy_entry"));
    EXPECT_THAT(refusal(directory_.file("wrong_version")), HasSubstr("version 2 of the policy interface"));
    EXPECT_THAT(refusal(directory_.file("none")), HasSubstr("No such file"));
    std::filesystem::resize_file(directory_.file("scripted"), 100);
    EXPECT_THAT(refusal(directory_.file("scripted")), HasSubstr("cannot be loaded"));
}

TEST_F(PolicyPluginTest, refusesWhatOthersThanRootCouldHavePutThere) {
    const auto file = directory_.file("window");
    EXPECT_THAT(refusal("window.so"), HasSubstr("not an absolute path"));
    EXPECT_THAT(refusal("/usr/lib/x86_64-linux-gnu/libc.so.6"), HasSubstr("where policies have to be"));
    EXPECT_THAT(refusal(directory_.path() / "sub" / ".." / "window.so"), HasSubstr("No such file"));
    std::filesystem::create_symlink("/proc/self/exe", directory_.file("link"));
    EXPECT_THAT(refusal(directory_.file("link")), HasSubstr("where policies have to be"));
    EXPECT_THAT(refusal(directory_.path()), HasSubstr("where policies have to be"));
    std::filesystem::create_directory(directory_.file("folder"));
    EXPECT_THAT(refusal(directory_.file("folder")), HasSubstr("not a regular file"));

    for (const auto writable : {perms::group_write, perms::others_write}) {
        for (const auto& path : {file, directory_.path()}) {
            std::filesystem::permissions(path, writable, std::filesystem::perm_options::add);
            EXPECT_THAT(refusal(file), HasSubstr(path.string() + " is writable by others"));
            std::filesystem::permissions(path, writable, std::filesystem::perm_options::remove);
        }
    }
    ASSERT_EQ(::chown(file.c_str(), 65534, 0), 0);
    EXPECT_THAT(refusal(file), HasSubstr("belongs to user 65534"));
    ASSERT_EQ(::chown(file.c_str(), 0, 0), 0);
    EXPECT_EQ(refusal(file), "");
}

}  // namespace
}  // namespace thermocline::memory
