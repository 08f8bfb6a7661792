// SPDX-License-Identifier: Apache-2.0
// The command line itself: what is accepted, what each command does without a daemon.
#include "cli/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/cmd_attach.h"
#include "cli/cmd_budget.h"
#include "cli/cmd_completion.h"
#include "cli/cmd_doctor.h"
#include "cli/cmd_file_tier.h"
#include "cli/cmd_freeze_paused.h"
#include "cli/cmd_heat.h"
#include "cli/cmd_history.h"
#include "cli/cmd_limit.h"
#include "cli/cmd_list.h"
#include "cli/cmd_plan.h"
#include "cli/cmd_priority.h"
#include "cli/cmd_proactive.h"
#include "cli/cmd_top.h"

namespace thermocline::cli {
namespace {

using ::testing::HasSubstr;

class CommandTest : public ::testing::Test {
  protected:
    CommandTest() {
        addAttachCommand(app_, common_);
        addCompletionCommand(app_, common_);
        addDoctorCommand(app_, common_);
        addFileTierCommand(app_, common_);
        addFreezePausedCommand(app_, common_);
        addHeatCommand(app_, common_);
        addBudgetCommand(app_, common_);
        addPlanCommand(app_, common_);
        addPriorityCommand(app_, common_);
        addHistoryCommand(app_, common_);
        addLimitCommand(app_, common_);
        addListCommand(app_, common_);
        addProactiveCommand(app_, common_);
        addTopCommand(app_, common_);
    }
    /// What the command does; stdout is kept in output_.
    Expected<ExitCode> run(const std::string& line) {
        app_.parse(line);
        ::testing::internal::CaptureStdout();
        auto result = common_.run();
        output_ = ::testing::internal::GetCapturedStdout();
        return result;
    }
    void expectUnreachable(const std::string& line) {
        const auto result = run(line + " --bus unix:path=/nonexistent/bus");
        ASSERT_FALSE(result) << line;
        EXPECT_EQ(result.error().code, ExitCode::unreachable);
        EXPECT_THAT(result.error().message, HasSubstr("thermoclined"));
    }

    CLI::App app_;
    Common common_;
    std::string output_;
};

TEST_F(CommandTest, completionIsAScriptForBash) {
    EXPECT_EQ(run("completion bash").value(), ExitCode::ok);
    EXPECT_THAT(output_, HasSubstr("complete -F _thermoctl thermoctl"));
    EXPECT_THAT(output_, HasSubstr("proactive freeze-paused priority budget plan file-tier heat"));
    EXPECT_THROW(app_.parse("completion fish"), CLI::ValidationError);
}

TEST_F(CommandTest, aBadSizeIsToldBeforeTheDaemonIsAsked) {
    for (const char* size : {"12X", "lots", "1..5G"}) {
        const auto result = run(std::string("limit --bus unix:path=/nonexistent/bus vm ") + size);
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code, ExitCode::usage);
        EXPECT_EQ(result.error().name, "InvalidLimit");
        EXPECT_THAT(result.error().message, HasSubstr(size));
    }
}

TEST_F(CommandTest, aBadProactivePolicyIsToldBeforeTheDaemonIsAsked) {
    const auto told = [&](const std::string& line, const std::string& words) {
        const auto result = run("proactive vm --bus unix:path=/nonexistent/bus " + line);
        ASSERT_FALSE(result) << line;
        EXPECT_EQ(result.error().code, ExitCode::usage);
        EXPECT_EQ(result.error().name, "InvalidArgument");
        EXPECT_THAT(result.error().message, HasSubstr(words));
    };
    told("--max-stall little", "\"little\" is not a share of time");
    told("--max-stall 0%", "thermoctl proactive vm off");
    told("--max-stall 1% --min-resident 12X", "12X");
}

TEST_F(CommandTest, aHeatMapIsDrawnAsSvgOrPng) {
    for (const char* file : {"map.jpeg", "map", "svg"}) {
        const auto result = run(std::string("heat vm --bus unix:path=/nonexistent/bus --plot ") + file);
        ASSERT_FALSE(result) << file;
        EXPECT_EQ(result.error().code, ExitCode::usage);
        EXPECT_THAT(result.error().message, HasSubstr("ends with .svg or .png"));
    }
}

TEST_F(CommandTest, aBadTimeIsToldBeforeTheDaemonIsAsked) {
    const auto result = run("history vm --since soon --bus unix:path=/nonexistent/bus");
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ExitCode::usage);
    EXPECT_THAT(result.error().message, HasSubstr("\"soon\" is no time"));
}

TEST_F(CommandTest, aHistoryOfNoTimeIsToldBeforeTheDaemonIsAsked) {
    const auto told = [&](const std::string& line, const std::string& words) {
        const auto result = run("history vm --bus unix:path=/nonexistent/bus " + line);
        ASSERT_FALSE(result) << line;
        EXPECT_EQ(result.error().code, ExitCode::usage);
        EXPECT_THAT(result.error().message, HasSubstr(words));
    };
    told("--since 1h --until 2h", "is not before --until 2h");
    told("--since 1h --until now --step 0", "not a span of time");
    told("--since 4w --until now --step 1s", "more than 100000 steps");
    told("--since 1h --until now --step 1m --plot x.jpeg", "ends with .svg or .png");
}

TEST_F(CommandTest, aBadKeepFreeIsToldBeforeTheDaemonIsAsked) {
    for (const char* line : {"budget 75% --keep-free much", "plan --budget 75% --keep-free much"}) {
        const auto result = run(std::string(line) + " --bus unix:path=/nonexistent/bus");
        ASSERT_FALSE(result) << line;
        EXPECT_EQ(result.error().code, ExitCode::usage);
    }
}

TEST_F(CommandTest, withoutADaemonSaysHowToGetOne) {
    for (const char* line : {"list",
                             "attach vm",
                             "limit vm 1G",
                             "limit vm none",
                             "history vm",
                             "top",
                             "doctor vm",
                             "proactive vm",
                             "proactive vm off",
                             "proactive vm --max-stall 1% --min-resident 1G",
                             "heat vm",
                             "heat vm --plot x.svg",
                             "file-tier vm",
                             "file-tier vm off",
                             "budget",
                             "budget 75% --keep-free 1G",
                             "plan",
                             "plan --budget 24G",
                             "priority vm 200",
                             "freeze-paused vm 5m",
                             "freeze-paused vm off",
                             "history vm --csv"})
        expectUnreachable(line);
}

TEST_F(CommandTest, theHostsPartOfDoctorNeedsNoDaemon) {
    const auto result = run("doctor --json --bus unix:path=/nonexistent/bus");
    ASSERT_TRUE(result);  // whether this host is able is not the question here
    const auto json = nlohmann::json::parse(output_);
    EXPECT_EQ(json.at("usable").get<bool>(), *result == ExitCode::ok);
    EXPECT_GE(json.at("host").size(), 2U);
    EXPECT_EQ(json.at("host").back().at("name"), "thermoclined");
    EXPECT_FALSE(json.at("host").back().at("ok").get<bool>());
    EXPECT_TRUE(json.at("domains").empty());
}

TEST_F(CommandTest, refusesWhatIsNoUsage) {
    EXPECT_THROW(app_.parse("attach"), CLI::RequiredError);
    EXPECT_THROW(app_.parse("limit vm"), CLI::RequiredError);
    EXPECT_THROW(app_.parse("list --what"), CLI::ExtrasError);
    EXPECT_THROW(app_.parse("top --interval 0"), CLI::ValidationError);
    EXPECT_THROW(app_.parse("proactive"), CLI::RequiredError);
    EXPECT_THROW(app_.parse("proactive vm on"), CLI::ValidationError);
    EXPECT_THROW(app_.parse("proactive vm off --max-stall 1%"), CLI::ExcludesError);
    EXPECT_THROW(app_.parse("file-tier"), CLI::RequiredError);
    EXPECT_THROW(app_.parse("file-tier vm on"), CLI::ValidationError);
    EXPECT_THROW(app_.parse("heat vm --pieces many"), CLI::ConversionError);
    EXPECT_THROW(app_.parse("history vm --resolution weekly"), CLI::ValidationError);
    EXPECT_THROW(app_.parse("history vm --csv --json"), CLI::ExcludesError);
    EXPECT_THROW(app_.parse("history vm --csv --table"), CLI::ExcludesError);
    EXPECT_THROW(app_.parse("freeze-paused vm"), CLI::RequiredError);
    EXPECT_THROW(app_.parse("priority vm"), CLI::RequiredError);
    EXPECT_THROW(app_.parse("priority vm high"), CLI::ConversionError);
    EXPECT_THROW(app_.parse("budget --keep-free 1G"), CLI::RequiresError);
    EXPECT_THROW(app_.parse("plan --keep-free 1G"), CLI::RequiresError);
}

}  // namespace
}  // namespace thermocline::cli
