// SPDX-License-Identifier: Apache-2.0
#include "daemon/host_memory.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "db/testing/temporary_directory.h"

namespace thermocline {
namespace {

using namespace std::chrono_literals;

TEST(HostMemory, isReadFromMeminfo) {
    const auto memory =
        parseHostMemory("MemTotal:       24000000 kB\nMemFree: 5 kB\nMemAvailable:   1024 kB\n");
    ASSERT_TRUE(memory);
    EXPECT_EQ(memory->total, 24'000'000ULL << 10U);
    EXPECT_EQ(memory->available, 1ULL << 20U);
    for (const char* text : {"", "MemTotal: 5 kB", "MemTotal: x kB\nMemAvailable: 1 kB", "MemTotal:"})
        EXPECT_FALSE(parseHostMemory(text)) << text;
    const auto own = readHostMemory();
    ASSERT_TRUE(own) << own.error().message;
    EXPECT_GT(own->total, own->available);
}

class HostPressureTest : public ::testing::Test {
  protected:
    void write(std::uint64_t microseconds) {
        std::ofstream(file_) << "some avg10=0.00 avg60=0.00 avg300=0.00 total=" << microseconds
                             << "\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
    }
    thermocline::testing::TemporaryDirectory directory_;
    const std::filesystem::path file_ = directory_.path() / "memory";
    EventLoop loop_;
    int pressed_ = 0;
};

/// Whether this process has CAP_SYS_RESOURCE, which a trigger takes.
bool mayTrigger() {
    std::ifstream file("/proc/self/status");
    constexpr unsigned sysResource = 24;
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("CapEff:"))
            return (std::stoull(line.substr(7), nullptr, 16) >> sysResource & 1U) != 0;
    return false;
}

TEST_F(HostPressureTest, theKernelTellsWhereItLetsUs) {
    const auto pressure = HostPressure::watch(loop_, [] {});
    ASSERT_TRUE(pressure) << pressure.error().message;
    EXPECT_EQ((*pressure)->triggered(), mayTrigger());
}

TEST_F(HostPressureTest, isLookedAtWhereThereIsNoTrigger) {
    write(1'000'000);
    const auto pressure = HostPressure::watch(
        loop_, [this] { ++pressed_; }, file_, false);
    ASSERT_TRUE(pressure) << pressure.error().message;
    EXPECT_FALSE((*pressure)->triggered());
    write(1'050'000);  // what was waited before is not counted
    EXPECT_TRUE(loop_.runUntil([&] { return pressed_ == 1; }, 10s));
    write(1'100'000);
    EXPECT_TRUE(loop_.runUntil([&] { return pressed_ == 2; }, 10s));
}

TEST_F(HostPressureTest, whatHasNoFiguresIsRefused) {
    EXPECT_FALSE(HostPressure::watch(
        loop_, [] {}, file_, false));
    std::ofstream(file_) << "nothing";
    const auto without = HostPressure::watch(
        loop_, [] {}, file_, false);
    ASSERT_FALSE(without);
    EXPECT_NE(without.error().message.find("has no total="), std::string::npos);
}

}  // namespace
}  // namespace thermocline
