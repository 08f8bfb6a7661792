// SPDX-License-Identifier: Apache-2.0
#include "daemon/domain_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "db/testing/temporary_directory.h"

namespace thermocline {
namespace {

using ::testing::HasSubstr;
constexpr std::uint64_t mib = 1 << 20;
constexpr const char* nova = "http://openstack.org/xmlns/libvirt/nova/1.1";

class DomainRulesTest : public ::testing::Test {
  protected:
    void write(const std::string& name, const std::string& text) {
        std::ofstream(directory_.path() / name) << text;
    }
    [[nodiscard]] Result<DomainRules> load() const { return DomainRules::load(directory_.path()); }
    [[nodiscard]] db::Policy policyOf(const std::string& name, const std::string& metadata = {},
                                      std::uint64_t ram = 1024 * mib) const {
        const auto match = load().value().match({"uuid", name, true, false, ram, {}, metadata});
        return match ? match->policy : db::Policy{};
    }
    void refuses(const std::string& text, const std::string& place, const std::string& words) {
        write("10-bad.toml", text);
        const auto rules = load();
        ASSERT_FALSE(rules) << text;
        EXPECT_THAT(rules.error().message, HasSubstr((directory_.path() / place).string())) << text;
        EXPECT_THAT(rules.error().message, HasSubstr(words)) << text;
    }
    thermocline::testing::TemporaryDirectory directory_;
};

db::Policy ruled(std::uint64_t limit, db::ProactivePolicy proactive = {}) {
    return {true, limit, proactive, false, true};
}

TEST_F(DomainRulesTest, aPriorityIsAWholeNumberInItsRange) {
    write("10.toml", "[[rule]]\nname = \"a\"\npriority = 250\n");
    EXPECT_EQ(policyOf("a"), (db::Policy{true, 0, {}, false, true, 250}));
    for (const char* value : {"0", "1001", "-1", "1.5", "\"250\"", "true"})
        refuses(std::string("[[rule]]\nname = \"a\"\npriority = ") + value + "\n", "10-bad.toml:3",
                "from 1 to 1000");
    refuses("[[rule]]\nname = \"a\"\npriority = 5\nattach = false\n", "10-bad.toml:3",
            "domains that are attached");
}

TEST_F(DomainRulesTest, pausedDomainsAreFrozenAfterATime) {
    write("10.toml", "[default]\nfreeze-paused = \"5m\"\n");
    EXPECT_EQ(policyOf("a"), (db::Policy{true, 0, {}, false, true, 100, 300}));
    refuses("[[rule]]\nname = \"a\"\nfreeze-paused = \"soon\"\n", "10-bad.toml:3", "span of time");
}

TEST_F(DomainRulesTest, aDirectoryThatIsNotThereHasNone) {
    EXPECT_EQ(DomainRules::load(directory_.path() / "missing").value().size(), 0U);
    write("notes.txt", "[[[");
    EXPECT_EQ(load().value().size(), 0U);
    EXPECT_EQ(policyOf("any"), db::Policy{});
}

TEST_F(DomainRulesTest, theFirstThatFitsWinsAndElseTheDefault) {
    write("20-more.toml",
          "[default]\nmax-stall = \"0.5%\"\nmin-resident = \"128M\"\n[[rule]]\nname = \"web-1*\"\n");
    write(
        "10-web.toml",
        "[[rule]]\nname = \"web-*\"\nlimit = \"512MiB\"\n\n[[rule]]\nname = \"db-[0-9]\"\nattach = false\n");
    EXPECT_EQ(load().value().size(), 4U);
    EXPECT_EQ(policyOf("web-1"), ruled(512 * mib));
    EXPECT_FALSE(policyOf("db-7").managed);
    EXPECT_EQ(policyOf("db-x"), ruled(0, {0.005, 128 * mib}));
    EXPECT_EQ(load().value().match({"uuid", "db-7", true, false, mib})->where,
              (directory_.path() / "10-web.toml").string() + ":5");
}

TEST_F(DomainRulesTest, findsDomainsByTheirMetadata) {
    write("10-nova.toml", std::string("[[rule]]\nmetadata = { namespace = \"") + nova +
                              "\", path = \"flavor/@name\", value = \"m1.*\" }\nlimit = \"300M\"\n"
                              "[[rule]]\nmetadata = { namespace = \"" +
                              nova +
                              "\", path = \"owner/project\", value = \"lab\" }\nlimit = \"200M\"\n"
                              "[[rule]]\nname = \"b*\"\nmetadata = { namespace = \"urn:other\" }\n");
    const auto metadata = [](const std::string& flavor, const std::string& project) {
        return std::string("<metadata><a:x xmlns:a='urn:a'/><nova:instance xmlns:nova='") + nova +
               "'><nova:flavor name='" + flavor +
               "'/><nova:owner><nova:user>lab</nova:user><nova:project uuid='1'>" + project +
               "</nova:project></nova:owner></nova:instance></metadata>";
    };
    EXPECT_EQ(policyOf("a", metadata("m1.small", "lab")), ruled(300 * mib));
    EXPECT_EQ(policyOf("a", metadata("c1.small", "lab")), ruled(200 * mib));
    EXPECT_EQ(policyOf("a", metadata("c1.small", "shop")), db::Policy{});
    EXPECT_EQ(
        policyOf("a", "<metadata><instance xmlns='urn:fake'><flavor name='m1.x'/></instance></metadata>"),
        db::Policy{});
    EXPECT_EQ(policyOf("b1", "<metadata><o xmlns='urn:other'/></metadata>"), ruled(0));
    EXPECT_EQ(policyOf("a1", "<metadata><o xmlns='urn:other'/></metadata>"), db::Policy{});
    EXPECT_EQ(policyOf("b1", "<metadata"), db::Policy{});
}

TEST_F(DomainRulesTest, makesLimitsSuitTheDomain) {
    write("10.toml",
          "[[rule]]\nname = \"share\"\nlimit = \"75%\"\n[[rule]]\nname = \"size\"\nlimit = \"512MiB\"\n");
    EXPECT_EQ(policyOf("share", "", 1024 * mib).limitBytes, 768 * mib);
    EXPECT_EQ(policyOf("share", "", 1000 * mib + 1).limitBytes % 4096, 0U);
    EXPECT_EQ(policyOf("size", "", 512 * mib), ruled(0));
    EXPECT_EQ(policyOf("size", "", 16 * 1024 * mib).limitBytes, 1024 * mib);
}

TEST_F(DomainRulesTest, saysFileLineAndWhatToDo) {
    refuses("[[rule]]\nname = \"a\nlimit", "10-bad.toml:2", "correct the line");
    refuses("\n[defaults]\n", "10-bad.toml:2", "there are [default] and [[rule]]");
    refuses("rule = 1\n", "10-bad.toml:1", "there are [default] and [[rule]]");
    refuses("[[rule]]\nname = \"a\"\nlimt = \"1G\"\n", "10-bad.toml:3", "there is no limt here");
    refuses("[default]\nname = \"a\"\n", "10-bad.toml:2", "there is no name here");
    refuses("[[rule]]\nlimit = \"1G\"\n", "10-bad.toml:1", "make it [default]");
    refuses("[[rule]]\nname = 7\n", "10-bad.toml:2", "write name = \"...\"");
    refuses("[[rule]]\nname = \"a\"\nlimit = \"some\"\n", "10-bad.toml:3", "is not a size");
    refuses("[[rule]]\nname = \"a\"\nlimit = 5\n", "10-bad.toml:3", "write limit = \"...\"");
    refuses("[[rule]]\nname = \"a\"\nlimit = \"1%\"\n", "10-bad.toml:3", "from 6.25% to 100%");
    refuses("[[rule]]\nname = \"a\"\nmax-stall = \"90%\"\n", "10-bad.toml:3", "from 0.01% to 50%");
    refuses("[[rule]]\nname = \"a\"\nmin-resident = \"1G\"\n", "10-bad.toml:3", "give max-stall too");
    refuses("[[rule]]\nname = \"a\"\nattach = \"yes\"\n", "10-bad.toml:3", "true or false");
    refuses("[[rule]]\nname = \"a\"\nattach = false\nlimit = \"1G\"\n", "10-bad.toml:4", "remove it");
    refuses("[[rule]]\nmetadata = \"nova\"\n", "10-bad.toml:2", "is not a table");
    refuses("[[rule]]\nmetadata = { path = \"a\" }\n", "10-bad.toml:2", "has no namespace");
    refuses("[[rule]]\nmetadata = { namespace = \"u\", path = \"a//b\" }\n", "10-bad.toml:2", "is no path");
    refuses("[[rule]]\nmetadata = { namespace = \"u\", path = \"@a/b\" }\n", "10-bad.toml:2", "is no path");
    refuses("[[rule]]\nmetadata = { namespace = \"u\", vlaue = \"a\" }\n", "10-bad.toml:2",
            "there is no vlaue here");
    write("20.toml", "[default]\n");
    refuses("[default]\n", "20.toml:1", "remove one");
}

TEST_F(DomainRulesTest, aFileThatIsNoneIsAnError) {
    std::filesystem::create_directory(directory_.path() / "10.toml");
    EXPECT_THAT(load().error().message, HasSubstr("10.toml: it cannot be read"));
    std::ofstream(directory_.path() / "file") << "x";
    EXPECT_THAT(DomainRules::load(directory_.path() / "file").error().message,
                HasSubstr("has to be a directory"));
}

}  // namespace
}  // namespace thermocline
