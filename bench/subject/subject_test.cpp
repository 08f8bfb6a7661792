// SPDX-License-Identifier: Apache-2.0
#include "bench/subject/subject.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

namespace thermocline::bench {
namespace {

constexpr std::uint64_t ramBytes = 4U << 20;

class InProcess : public Machine {
  public:
    explicit InProcess(const VmRam& ram)
        : memory_(BatchArea::bytesFor(ram.bytes() / pageBytes) / 8 + 1),
          area_(reinterpret_cast<std::byte*>(memory_.data()),
                reinterpret_cast<std::uintptr_t>(memory_.data()),
                reinterpret_cast<std::uintptr_t>(ram.data()), ram.bytes() / pageBytes) {}
    BatchArea& area() override { return area_; }
    std::string run() override {
        thermoclineBenchAccess(&area_.batch());
        return problem;
    }
    std::string problem;

  private:
    std::vector<std::uint64_t> memory_;
    BatchArea area_;
};

struct SubjectTest : testing::Test {
    SubjectTest() { (void)subject.answer("fill"); }
    nlohmann::json run(const std::string& arguments) {
        return nlohmann::json::parse(subject.answer("run " + arguments));
    }
    VmRam ram{ramBytes, false};
    InProcess machine{ram};
    Subject subject{ram, machine};
};

TEST_F(SubjectTest, countsWhatItDidAndFindsNothingWrong) {
    for (const std::string workload : {"random 0.05", "zipf 0.05", "sequential 0.05", "strided 0.05 stride 8",
                                       "hot-cold 0.05 hot-pages 99 writes 100"}) {
        const auto result = run(workload);
        EXPECT_EQ(result.value("wrong", 1), 0) << workload;
        EXPECT_GT(result.value("accesses", 0), 0) << workload;
        EXPECT_GE(result.value("seconds", 0.0), 0.05) << workload;
        EXPECT_LE(result.value("p50_ns", 0.0), result.value("p99_ns", 0.0)) << workload;
    }
}

TEST_F(SubjectTest, computesAsLongAsItIsToldForEachAccess) {
    const auto result = run("random 0.05 work 1000");
    EXPECT_LE(result.value("accesses", 0.0), result.value("seconds", 0.0) * 1e6);
}

TEST_F(SubjectTest, findsOneWrongBit) {
    constexpr std::uint64_t page = 77;
    ram.data()[page * pageBytes + tagOffset(page)] ^= std::byte{1};
    const auto result = run("sequential 0.01 writes 0");
    EXPECT_GT(result.value("wrong", 0), 0);
    EXPECT_EQ(result.value("wrong_page", 0U), page);
}

TEST_F(SubjectTest, slicesAddUp) {
    const auto result = run("random 0.1 slice 0.01");
    std::uint64_t sum = 0;
    for (const auto& slice : result.at("slices"))
        sum += slice.get<std::uint64_t>();
    EXPECT_EQ(sum, result.at("accesses").get<std::uint64_t>());
    EXPECT_GE(result.at("slices").size(), 10U);
}

TEST_F(SubjectTest, saysWhatIsWrongWithACommand) {
    for (const std::string command : {"bogus", "run", "run random", "run bogus 1", "run random 1 colour 3"})
        EXPECT_TRUE(nlohmann::json::parse(subject.answer(command)).contains("error")) << command;
}

TEST_F(SubjectTest, passesOnWhatTheMachineSays) {
    machine.problem = "out of order";
    EXPECT_EQ(run("random 1").at("error"), "out of order");
}

}  // namespace
}  // namespace thermocline::bench
