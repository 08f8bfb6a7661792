// SPDX-License-Identifier: Apache-2.0

// What the engine costs, beside the floor that Linux itself sets: a bare loop that answers each fault with
// UFFDIO_COPY. Everything in one run, on one CPU, repeated; medians count. `engine_bench --help` lists Google
// Benchmark's options; `--json FILE` writes the figures and bars. Not a timed test: nothing here passes or
// fails.

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/byte_size.h"
#include "memory/manager/protocol.h"
#include "memory/testing/manager_child.h"
#include "memory/testing/pager_rig.h"
#include "memory/testing/subject_process.h"

namespace thermocline::memory {
namespace {

using testing::PagerRig;
using testing::SubjectProcess;

constexpr std::uint64_t mib = 1U << 20;
constexpr std::uint64_t subjectBytes = 128 * mib;
constexpr std::uint64_t subjectPages = subjectBytes / pageBytes;
constexpr int cpu = 0;

void pinTo(pid_t thread) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    ::sched_setaffinity(thread, sizeof set, &set);
}

double seconds(std::chrono::steady_clock::duration took) {
    return std::chrono::duration<double>(took).count();
}

/// Seconds for each page, by the subject's own clock, where it touches `pages` of them.
double touch(SubjectProcess& subject, const std::string& command, std::uint64_t pages) {
    return std::stod(subject.command(command).substr(3)) * 1e-9 / static_cast<double>(pages);
}
/// One after the other in an order that nobody can guess: what one fault alone costs.
double touchAll(SubjectProcess& subject) {
    return touch(subject, fmt::format("touch-shuffled 0 {}", subjectPages), subjectPages);
}
/// Huge pages come back as one: one page of each.
double touchBlocks(SubjectProcess& subject) {
    constexpr auto blocks = subjectPages / pagesPerBlock;
    return touch(subject, fmt::format("touch 0 {} {}", blocks, pagesPerBlock), blocks);
}

/// The floor: poll, read, UFFDIO_COPY of the same page; no state, no lookup, no content.
void floorCopy(benchmark::State& state) {
    SubjectProcess subject(subjectBytes, false);
    pinTo(subject.pid());
    PagerRig rig(subject);
    if (!rig.guest().registerMissing(subject.guestRam()[0])) return state.SkipWithError("cannot register");
    std::atomic<bool> stop{false};
    std::thread loop([&] {
        pinTo(0);
        const std::vector<std::byte> page(pageBytes, std::byte{1});
        pollfd polled{rig.guest().fd(), POLLIN, 0};
        uffd_msg message{};
        std::size_t copied = 0;
        while (!stop) {
            if (::poll(&polled, 1, 100) <= 0 || rig.guest().read({&message, 1}) == 0) continue;
            // The subject's MADV_DONTNEED between rounds is an event, not a fault.
            if (message.event == UFFD_EVENT_PAGEFAULT)
                rig.guest().copy({message.arg.pagefault.address & ~(pageBytes - 1)}, page, copied);
        }
    });
    for (auto _ : state) {
        subject.command(fmt::format("discard 0 {}", subjectPages));
        state.SetIterationTime(touchAll(subject));
    }
    stop = true;
    loop.join();
    (void)rig.guest().unregister(subject.guestRam()[0]);
}

enum class From { staged, cold };

void fault(benchmark::State& state, bool huge, From from) {
    SubjectProcess subject(subjectBytes, huge);
    pinTo(subject.pid());
    subject.command("fill 1 plain");
    PagerRig rig(subject);
    rig.serve();
    const bool blocks = huge && from == From::staged;
    for (auto _ : state) {
        rig.restoreAll();
        rig.stageAll();
        if (from == From::cold) rig.evictAll();
        state.SetIterationTime(blocks ? touchBlocks(subject) : touchAll(subject));
    }
}
void stagedFault(benchmark::State& state) {
    fault(state, false, From::staged);
}
void stagedHugeFault(benchmark::State& state) {
    fault(state, true, From::staged);
}
void coldFault(benchmark::State& state) {
    fault(state, false, From::cold);
}

/// Seconds per page of one of the rig's steps.
void step(benchmark::State& state, bool huge, const std::function<double(PagerRig&)>& run) {
    SubjectProcess subject(subjectBytes, huge);
    subject.command("fill 1 plain");
    PagerRig rig(subject);
    rig.serve();
    for (auto _ : state) {
        state.SetIterationTime(run(rig));
        rig.restoreAll();
    }
}
double timed(const std::function<std::uint64_t()>& pages) {
    const auto began = std::chrono::steady_clock::now();
    const auto count = pages();
    return seconds(std::chrono::steady_clock::now() - began) /
           static_cast<double>(std::max<std::uint64_t>(count, 1));
}
double stageStep(PagerRig& rig) {
    return timed([&] { return rig.stageAll(); });
}
double evictStep(PagerRig& rig) {
    rig.stageAll();
    return timed([&] { return rig.evictAll(); });
}
double restoreStep(PagerRig& rig) {
    rig.stageAll();
    const auto pages = rig.evictAll();
    return timed([&] {
        rig.restoreAll();
        return pages;
    });
}
void stageSmall(benchmark::State& state) {
    step(state, false, stageStep);
}
void stageHuge(benchmark::State& state) {
    step(state, true, stageStep);
}
void evictSmall(benchmark::State& state) {
    step(state, false, evictStep);
}
void evictHuge(benchmark::State& state) {
    step(state, true, evictStep);
}
void restoreSmall(benchmark::State& state) {
    step(state, false, restoreStep);
}
void restoreHuge(benchmark::State& state) {
    step(state, true, restoreStep);
}

void attachPause(benchmark::State& state) {
    SubjectProcess subject(subjectBytes, true);
    subject.command("fill 1 plain");
    for (auto _ : state) {
        const PagerRig rig(subject);
        state.SetIterationTime(static_cast<double>(rig.footprint().pauseMicroseconds) * 1e-6);
    }
}

/// A manager process as the daemon starts it, with half of the subject's memory cold.
Status managerStatus(std::uint64_t bytes) {
    SubjectProcess subject(bytes, true, {"-m", std::to_string(bytes / mib)});
    subject.command("fill 1 plain");
    testing::ManagerChild manager;
    if (!manager.start(subject.pid()).at("ok").get<bool>()) return {};
    manager.connect();
    const auto limit = bytes * 3 / 4;
    manager.call({{"id", 1}, {"method", "set-limit"}, {"params", {{"limit_bytes", limit}}}});
    Status status;
    do
        status = manager.call({{"id", 2}, {"method", "status"}}).at("result").get<Status>();
    while (status.usedBytes > limit);
    manager.call({{"id", 3}, {"method", "detach"}});
    manager.exitCode();
    return status;
}

BENCHMARK(floorCopy)->Name("raw UFFDIO_COPY fault (floor)")->UseManualTime()->Iterations(3)->Repetitions(5);
BENCHMARK(stagedFault)->Name("staged fault, 4 KiB")->UseManualTime()->Iterations(3)->Repetitions(5);
BENCHMARK(coldFault)->Name("cold fault, 4 KiB")->UseManualTime()->Iterations(3)->Repetitions(5);
BENCHMARK(stagedHugeFault)->Name("staged fault, 2 MiB")->UseManualTime()->Iterations(3)->Repetitions(5);
BENCHMARK(stageSmall)->Name("stage, per page, 4 KiB")->UseManualTime()->Iterations(1)->Repetitions(5);
BENCHMARK(stageHuge)->Name("stage, per page, 2 MiB")->UseManualTime()->Iterations(1)->Repetitions(5);
BENCHMARK(evictSmall)->Name("evict, per page, 4 KiB")->UseManualTime()->Iterations(1)->Repetitions(5);
BENCHMARK(evictHuge)->Name("evict, per page, 2 MiB")->UseManualTime()->Iterations(1)->Repetitions(5);
BENCHMARK(restoreSmall)->Name("bring back, per page, 4 KiB")->UseManualTime()->Iterations(1)->Repetitions(5);
BENCHMARK(restoreHuge)->Name("bring back, per page, 2 MiB")->UseManualTime()->Iterations(1)->Repetitions(5);
BENCHMARK(attachPause)->Name("attach pause")->UseManualTime()->Iterations(1)->Repetitions(30);

/// Keeps the medians; prints one line for each as it comes.
class MedianReporter : public benchmark::BenchmarkReporter {
  public:
    bool ReportContext(const Context&) override { return true; }
    void ReportRuns(const std::vector<Run>& runs) override {
        std::vector<double> microseconds;
        for (const auto& run : runs)
            if (run.run_type == Run::RT_Iteration && !run.error_occurred)
                microseconds.push_back(run.real_accumulated_time / static_cast<double>(run.iterations) * 1e6);
        if (microseconds.empty()) return;
        std::sort(microseconds.begin(), microseconds.end());
        const auto name = runs.front().run_name.function_name;
        medians[name] = microseconds[microseconds.size() / 2];
        fmt::print("{:<32} {:>9.2f} us   (best {:.2f}, worst {:.2f}, {} runs)\n", name, medians[name],
                   microseconds.front(), microseconds.back(), microseconds.size());
        std::fflush(stdout);
    }
    std::map<std::string, double> medians;
};

/// Prints and keeps the bars of what was measured: with --benchmark_filter that may be some of it.
class Bars {
  public:
    void add(const std::string& name, double got, double want) {
        json_.push_back({{"name", name}, {"want", want}, {"got", got}, {"met", got <= want}});
        fmt::print("{:<48} {:>10.2f}  want <= {:<10.2f} {}\n", name, got, want,
                   got <= want ? "met" : "NOT MET");
    }
    [[nodiscard]] const nlohmann::json& json() const { return json_; }

  private:
    nlohmann::json json_ = nlohmann::json::array();
};

constexpr const char* floorName = "raw UFFDIO_COPY fault (floor)";
constexpr const char* pauseName = "attach pause";

void addFaults(const std::map<std::string, double>& us, Bars& bars) {
    if (!us.contains(floorName)) return;
    if (us.contains("staged fault, 4 KiB"))
        bars.add("staged fault / floor", us.at("staged fault, 4 KiB") / us.at(floorName), 1.3);
    if (us.contains("cold fault, 4 KiB"))
        bars.add("cold fault / floor", us.at("cold fault, 4 KiB") / us.at(floorName), 1.6);
}

/// What a manager process takes for itself.
void addFootprint(nlohmann::json& json, Bars& bars) {
    const auto status = managerStatus(512 * mib);
    const auto perPage =
        static_cast<double>(status.metadataBytes) / static_cast<double>(status.memoryBytes / pageBytes);
    fmt::print("{:<32} {:>9.2f} bytes per guest page\n", "metadata", perPage);
    fmt::print("{:<32} {:>9}   (and {} of metadata, for {} of guest RAM)\n\n", "manager's private memory",
               formatByteSize(status.managerRssBytes), formatByteSize(status.metadataBytes),
               formatByteSize(status.memoryBytes));
    bars.add("manager's overhead, MiB",
             static_cast<double>(status.managerRssBytes + status.metadataBytes) / mib,
             8 + 0.005 * static_cast<double>(status.memoryBytes) / mib);
    json["metadata_bytes_per_page"] = perPage;
    json["manager_rss_bytes"] = status.managerRssBytes;
}

void report(const std::map<std::string, double>& us, const std::string& jsonPath) {
    utsname machine{};
    ::uname(&machine);
    nlohmann::json json{
        {"machine", {{"kernel", machine.release}, {"cpus", std::thread::hardware_concurrency()}}},
        {"microseconds", us}};
    Bars bars;
    addFaults(us, bars);
    if (us.contains(pauseName)) {
        bars.add("attach pause, us", us.at(pauseName), 2000);
        addFootprint(json, bars);
    }
    json["bars"] = bars.json();
    if (!jsonPath.empty()) std::ofstream(jsonPath) << json.dump(2) << "\n";
}

}  // namespace
}  // namespace thermocline::memory

int main(int argc, char** argv) {
    std::string jsonPath;
    for (int i = 1; i + 1 < argc; ++i) {
        if (std::string_view(argv[i]) != "--json") continue;
        jsonPath = argv[i + 1];
        std::move(argv + i + 2, argv + argc + 1, argv + i);
        argc -= 2;
        break;
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    thermocline::memory::MedianReporter reporter;
    benchmark::RunSpecifiedBenchmarks(&reporter);
    thermocline::memory::report(reporter.medians, jsonPath);
    return 0;
}
