// SPDX-License-Identifier: Apache-2.0
#include "bench/subject/subject.h"

#include <sys/prctl.h>
#include <x86intrin.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <vector>

#include "bench/subject/latency_histogram.h"
#include "bench/subject/page_content.h"

namespace thermocline::bench {
namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point began) {
    return std::chrono::duration<double>(Clock::now() - began).count();
}

double measureCyclesPerNanosecond() {
    constexpr double seconds = 0.02;
    const auto began = Clock::now();
    const auto first = __rdtsc();
    while (secondsSince(began) < seconds) {
    }
    return static_cast<double>(__rdtsc() - first) / (secondsSince(began) * 1e9);
}

/// Stands for what a program does between two accesses: takes a CPU and touches no memory of the subject.
void computeFor(double seconds) {
    const auto began = Clock::now();
    while (secondsSince(began) < seconds) {
    }
}

std::string failed(const std::string& message) {
    return nlohmann::json{{"error", message}}.dump();
}

}  // namespace

Subject::Subject(const VmRam& ram, Machine& machine)
    : ram_(ram), machine_(machine), cyclesPerNanosecond_(measureCyclesPerNanosecond()) {}

void Subject::serve() {
    for (std::string line; std::getline(std::cin, line);)
        std::cout << answer(line) << std::endl;
}

std::string Subject::answer(const std::string& command) {
    std::istringstream words(command);
    std::string name;
    words >> name;
    if (name == "fill") return fill();
    if (name != "run") return failed("unknown command " + name);
    PatternOptions options;
    options.pages = ram_.bytes() / pageBytes;
    Pace pace;
    double workNanoseconds = 0;
    words >> options.workload >> pace.seconds;
    for (std::string key; words >> key;) {
        if (key == "hot-pages")
            words >> options.hotPages;
        else if (key == "period")
            words >> options.periodSeconds;
        else if (key == "stride")
            words >> options.stride;
        else if (key == "writes")
            words >> options.writePercent;
        else if (key == "slice")
            words >> pace.sliceSeconds;
        else if (key == "work")
            words >> workNanoseconds;
        else
            return failed("unknown option " + key);
    }
    pace.workSeconds = workNanoseconds * 1e-9;
    if (words.bad() || pace.seconds <= 0) return failed("usage: run WORKLOAD SECONDS [OPTION VALUE]...");
    return runWorkload(options, pace);
}

std::string Subject::fill() {
    const auto pages = ram_.bytes() / pageBytes;
    const auto began = Clock::now();
    for (std::uint64_t page = 0; page < pages; ++page) {
        fillPage(page, PageWords(reinterpret_cast<std::uint64_t*>(ram_.data() + page * pageBytes),
                                 pageBytes / sizeof(std::uint64_t)));
        machine_.area().expected()[page] = firstTag(page);
    }
    return nlohmann::json{{"pages", pages},
                          {"address", reinterpret_cast<std::uintptr_t>(ram_.data())},
                          {"seconds", secondsSince(began)}}
        .dump();
}

std::string Subject::runWorkload(const PatternOptions& options, const Pace& pace) {
    if (pattern_ == nullptr || !(options == lastOptions_)) {
        pattern_ = makePattern(options);
        lastOptions_ = options;
    }
    if (pattern_ == nullptr) return failed("no workload " + options.workload + " with these options");
    auto& area = machine_.area();
    LatencyHistogram latencies;
    std::vector<std::uint64_t> slices;
    std::uint64_t accesses = 0;
    std::uint64_t wrong = 0;
    std::uint64_t wrongPage = 0;
    const auto began = Clock::now();
    double elapsed = 0;
    while (elapsed < pace.seconds) {
        pattern_->fill(area.entries(), elapsed);
        if (const auto problem = machine_.run(); !problem.empty()) return failed(problem);
        for (const auto cycles : area.samples())
            latencies.add(cycles);
        if (area.batch().wrong != 0) wrongPage = area.batch().lastWrong;
        wrong += area.batch().wrong;
        accesses += area.batch().count;
        computeFor(pace.workSeconds * static_cast<double>(area.batch().count));
        elapsed = secondsSince(began);
        if (pace.sliceSeconds <= 0) continue;
        const auto slice = static_cast<std::size_t>(elapsed / pace.sliceSeconds);
        if (slices.size() <= slice) slices.resize(slice + 1);
        slices[slice] += area.batch().count;
    }
    const auto nanoseconds = [&](double cycles) { return cycles / cyclesPerNanosecond_; };
    nlohmann::json result{{"accesses", accesses},
                          {"seconds", elapsed},
                          {"began", std::chrono::duration<double>(began.time_since_epoch()).count()},
                          {"wrong", wrong},
                          {"p50_ns", nanoseconds(latencies.quantile(0.5))},
                          {"p99_ns", nanoseconds(latencies.quantile(0.99))},
                          {"p999_ns", nanoseconds(latencies.quantile(0.999))},
                          {"max_ns", nanoseconds(latencies.longest())}};
    if (wrong != 0) result["wrong_page"] = wrongPage;
    if (pace.sliceSeconds > 0) result["slices"] = slices;
    return result.dump();
}

SubjectArguments readArguments(int argc, char** argv) {
    // A benchmark that is killed must not leave us behind.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    SubjectArguments arguments;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word(argv[i]);
        if (word == "-m" && i + 1 < argc)
            arguments.bytes = std::strtoull(argv[++i], nullptr, 10) << 20;
        else if (word == "--small-pages")
            arguments.huge = false;
        else
            arguments.bytes = 0;
    }
    if (arguments.bytes == 0) {
        std::fprintf(stderr, "usage: %s [--small-pages] -m MEBIBYTES\n", argv[0]);
        std::exit(2);
    }
    return arguments;
}

}  // namespace thermocline::bench
