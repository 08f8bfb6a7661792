// SPDX-License-Identifier: Apache-2.0
#include "daemon/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace thermocline {
namespace {

using ::testing::HasSubstr;

std::variant<Options, ExitCode> parse(std::vector<std::string> words) {
    words.insert(words.begin(), "thermoclined");
    std::vector<char*> argv;
    for (auto& word : words)
        argv.push_back(word.data());
    return parseOptions(static_cast<int>(argv.size()), argv.data());
}

void expectRefused(const std::vector<std::string>& words, const std::string& why) {
    ::testing::internal::CaptureStderr();
    const auto parsed = parse(words);
    EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr(why));
    ASSERT_TRUE(std::holds_alternative<ExitCode>(parsed)) << why;
    EXPECT_EQ(std::get<ExitCode>(parsed), ExitCode::usage);
}

TEST(Options, thereIsNoFileTierUnlessOneIsAskedFor) {
    const auto tier = std::get<Options>(parse({})).fileTier;
    EXPECT_TRUE(tier.directory.empty());
    EXPECT_FALSE(tier.maxBytes || tier.maxBytesPerDay || tier.ageSeconds);
}

TEST(Options, takesTheFileTiersBoundsAsPeopleWriteThem) {
    const auto tier = std::get<Options>(parse({"--file-tier-dir", "/disk", "--file-tier-max", "1.5GiB",
                                               "--file-tier-per-day", "20GB", "--file-tier-age", "0.5"}))
                          .fileTier;
    EXPECT_EQ(tier.directory, "/disk");
    EXPECT_EQ(tier.maxBytes, 3U << 29);
    EXPECT_EQ(tier.maxBytesPerDay, 20'000'000'000U);
    EXPECT_EQ(tier.ageSeconds, 0.5);
}

TEST(Options, saysWhatIsWrongWithAFileTier) {
    for (const char* option : {"--file-tier-max", "--file-tier-per-day"}) {
        expectRefused({"--file-tier-dir", "/disk", option, "12X"}, "\"12X\" is not a size; write a number");
        expectRefused({"--file-tier-dir", "/disk", option, "1023K"}, "1023K is too little");
        expectRefused({option, "1G"}, "requires --file-tier-dir");
    }
    expectRefused({"--file-tier-dir", "/disk", "--file-tier-age", "-1"}, "not in range");
    expectRefused({"--file-tier-dir", "/disk", "--file-tier-age", "soon"}, "soon");
    expectRefused({"--file-tier-age", "1"}, "requires --file-tier-dir");
}

TEST(Options, takeAPolicyAndItsOptions) {
    EXPECT_TRUE(std::get<Options>(parse({})).policy.file.empty());
    const auto policy = std::get<Options>(parse({"--policy", "/p/window.so", "--policy-option", "window=9",
                                                 "--policy-option", "a=b=c", "--policy-dir", "/p"}))
                            .policy;
    EXPECT_EQ(policy.file, "/p/window.so");
    EXPECT_EQ(policy.options, (std::vector<std::string>{"window=9", "a=b=c"}));
    EXPECT_EQ(policy.directory, "/p");
    expectRefused({"--policy", "/p/window.so", "--policy-option", "window"}, "window is not KEY=VALUE");
    expectRefused({"--policy-option", "a=b"}, "requires --policy");
    expectRefused({"--policy-dir", "/p"}, "requires --policy");
}

TEST(Options, takesABudgetInAnyOrder) {
    for (const auto& words : {std::vector<std::string>{"--budget", "75%", "--keep-free", "2G"},
                              std::vector<std::string>{"--keep-free", "2G", "--budget", "75%"}})
        EXPECT_EQ(std::get<Options>(parse(words)).budget, (db::HostBudget{0, 0.75, 2ULL << 30}));
    EXPECT_FALSE(std::get<Options>(parse({})).budget.on());
    expectRefused({"--budget", "200%"}, "from 1% to 100%");
    expectRefused({"--keep-free", "2G"}, "requires --budget");
    expectRefused({"--budget", "75%", "--keep-free", "some"}, "--keep-free");
}

}  // namespace
}  // namespace thermocline
