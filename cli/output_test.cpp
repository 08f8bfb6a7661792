// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline::cli {
namespace {

TEST(Table, alignsByCharactersAndLeavesNoTrailingSpaces) {
    Table table({{"NAME"}, {"SIZE", true}, {"NOTE"}});
    table.add({"a", "1 B", ""});
    table.add({"größer", "12 KiB", "x"});
    EXPECT_EQ(table.render(Style(false)),
              "NAME      SIZE  NOTE\n"
              "a          1 B\n"
              "größer  12 KiB  x\n");
}

TEST(Table, coloursDoNotCountAsWidth) {
    Table table({{"A"}, {"B"}});
    table.add({{"x", Colour::good}, "y"});
    EXPECT_EQ(table.render(Style(true)), "\033[1mA\033[0m  \033[1mB\033[0m\n\033[32mx\033[0m  y\n");
}

TEST(Style, isPlainWhereThereIsNoTerminal) {
    std::FILE* const file = std::tmpfile();
    EXPECT_EQ(Style::of(file).paint("x", Colour::bad), "x");
    std::fclose(file);
}

TEST(Output, figuresForPeople) {
    EXPECT_EQ(percent(0.0312), "3.1 %");
    EXPECT_EQ(duration(0), "0.0 us");
    EXPECT_EQ(duration(1'500), "1.5 us");
    EXPECT_EQ(duration(9'300'000), "9.3 ms");
    EXPECT_EQ(duration(1'200'000'000), "1.2 s");
    EXPECT_EQ(sizeOrDash(0), "-");
    EXPECT_EQ(sizeOrDash(1024), "1.0 KiB");
    EXPECT_EQ(sparkline({0, 7, 3.5}), "▁█▅");
    EXPECT_EQ(sparkline({0, 0}), "▁▁");
    EXPECT_EQ(sparkline({7, std::nullopt, 7}), "█ █");
    EXPECT_EQ(sparkline({}), "");
}

TEST(Output, saysWhatTheProactivePolicyIs) {
    DomainFigures domain;
    EXPECT_EQ(proactiveText(domain), "off");
    domain.proactiveMaxStall = 0.005;
    EXPECT_EQ(proactiveText(domain), "at a stall of up to 0.5 %");
    domain.minResidentBytes = 64 << 20;
    EXPECT_EQ(proactiveText(domain), "at a stall of up to 0.5 %, leaving 64.0 MiB in memory");
    EXPECT_EQ(toJson(domain).at("proactive_max_stall"), 0.005);
    EXPECT_EQ(toJson(domain).at("min_resident_bytes"), 64 << 20);
}

TEST(Output, saysWhatTheFileTierHolds) {
    DomainFigures domain;
    EXPECT_EQ(fileTierText(domain), "none");
    domain.fileTier = "open";
    EXPECT_EQ(fileTierText(domain), "open");
    domain.fileTier = "being emptied";
    domain.frozenBytes = 64 << 20;
    domain.fileBytes = 24 << 20;
    domain.frozenFaults = 5;
    EXPECT_EQ(fileTierText(domain), "being emptied, 64.0 MiB of guest memory in 24.0 MiB of disk");
    const auto json = toJson(domain);
    EXPECT_EQ(json.at("file_tier"), "being emptied");
    EXPECT_EQ(json.at("frozen_bytes"), 64 << 20);
    EXPECT_EQ(json.at("file_bytes"), 24 << 20);
    EXPECT_EQ(json.at("frozen_faults"), 5);
    domain.policy = "window";
    EXPECT_EQ(toJson(domain).at("policy"), "window");
    EXPECT_EQ(toJson(domain).at("policy_note"), "");
}

TEST(Output, savedIsWhatTheHostHasBack) {
    DomainFigures domain;
    domain.coldBytes = 100;
    domain.storeBytes = 30;
    domain.metadataBytes = 20;
    EXPECT_EQ(domain.savedBytes(), 50U);
    domain.frozenBytes = 7;  // on a disk, so all of it
    EXPECT_EQ(domain.savedBytes(), 57U);
    domain.frozenBytes = 0;
    domain.storeBytes = 90;
    EXPECT_EQ(domain.savedBytes(), 0U);
}

TEST(Output, domainTableTellsTheStatesApart) {
    DomainFigures off;
    off.name = "off";
    off.state = "detached";
    off.memoryBytes = 1 << 20;
    off.limitBytes = 1 << 19;
    DomainFigures on;
    on.name = "on";
    on.state = "attached";
    on.running = true;
    on.faults = 42;
    on.stallRatio = 0.5;
    const std::string text = domainTable({off, on}, Style(false));
    EXPECT_THAT(text,
                ::testing::ContainsRegex("off +shut off +1.0 MiB +- +- +- +- +- +512.0 KiB +- +- +-\n"));
    EXPECT_THAT(text, ::testing::ContainsRegex("on +attached .* 42 +50.0 %\n"));
}

TEST(Output, jsonHasTheNamesOfTheProtocol) {
    DomainFigures domain;
    domain.name = "vm";
    domain.attachPauseMicroseconds = 7;
    domain.stallNanoseconds = 8;
    const auto json = toJson(domain);
    EXPECT_EQ(json.at("name"), "vm");
    EXPECT_EQ(json.at("attach_pause_us"), 7);
    EXPECT_EQ(json.at("stall_ns"), 8);
    EXPECT_EQ(json.size(), 46U);
    EXPECT_EQ(toJson(HistorySample{}).size(), 19U);
}

TEST(Output, aPlanHasEveryFigure) {
    PlanFigures plan;
    plan.available = 7;
    plan.note = "the budget is 7 B";
    plan.vms.push_back({"/path", "vm", 200, 1, 2, 3, 0, 5, "why"});
    const auto json = toJson(plan);
    EXPECT_EQ(json.at("available_bytes"), 7);
    EXPECT_EQ(json.at("vms").at(0),
              nlohmann::json::parse(R"({"name": "vm", "priority": 200, "floor_bytes": 1, "need_bytes": 2,
                                        "used_bytes": 3, "before_bytes": 0, "after_bytes": 5, "reason": "why"})"));
}

TEST(Output, aBudgetIsSaidWithWhatThereIsToSayOfIt) {
    ManagerFigures manager;
    EXPECT_EQ(budgetText(manager), "off");
    manager.budget = "75%";
    EXPECT_EQ(budgetText(manager), "75%");
    manager.keepFreeBytes = 2ULL << 30;
    manager.budgetNote = "the budget is 75 %";
    EXPECT_EQ(budgetText(manager), "75%, 2.0 GiB kept free (the budget is 75 %)");
}

TEST(Failure, everyErrorHasItsExitCode) {
    const auto code = [](const char* name) { return toFailure(sdbus::Error(name, "m")).code; };
    EXPECT_EQ(code("org.thermocline1.Error.NoSuchDomain"), ExitCode::noSuchDomain);
    EXPECT_EQ(code("org.thermocline1.Error.NotSupported"), ExitCode::notSupported);
    EXPECT_EQ(code("org.thermocline1.Error.InvalidLimit"), ExitCode::failure);
    EXPECT_EQ(code("org.freedesktop.DBus.Error.ServiceUnknown"), ExitCode::unreachable);
    EXPECT_EQ(code("org.freedesktop.DBus.Error.NoReply"), ExitCode::unreachable);
    EXPECT_EQ(code("org.freedesktop.DBus.Error.UnknownObject"), ExitCode::noSuchDomain);
    const auto denied = toFailure(sdbus::Error("org.freedesktop.DBus.Error.AccessDenied", "no"));
    EXPECT_EQ(denied.code, ExitCode::failure);
    EXPECT_EQ(denied.name, "PermissionDenied");
    EXPECT_THAT(denied.message, ::testing::HasSubstr("run thermoctl as root"));
    EXPECT_EQ(toFailure(sdbus::Error("org.thermocline1.Error.Busy", "wait")).message, "wait");
}

}  // namespace
}  // namespace thermocline::cli
