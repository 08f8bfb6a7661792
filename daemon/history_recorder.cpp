// SPDX-License-Identifier: Apache-2.0
#include "daemon/history_recorder.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace thermocline {
namespace {

using namespace std::chrono_literals;

/// Counters begin again with each attach.
std::uint64_t delta(std::uint64_t now, std::uint64_t before) {
    return now >= before ? now - before : now;
}

db::Sample sampleOf(std::chrono::sys_seconds time, const manager::Status& now,
                    const manager::Status& before) {
    db::Sample sample;
    sample.time = time;
    sample.memory = static_cast<double>(now.memoryBytes);
    sample.resident = static_cast<double>(now.residentBytes);
    sample.staged = static_cast<double>(now.stagedBytes);
    sample.cold = static_cast<double>(now.coldBytes);
    sample.store = static_cast<double>(now.storeBytes);
    sample.metadata = static_cast<double>(now.metadataBytes);
    sample.used = static_cast<double>(now.usedBytes);
    sample.limit = static_cast<double>(now.limitBytes);
    sample.frozen = static_cast<double>(now.frozenBytes);
    sample.faults = delta(now.faults, before.faults);
    sample.stagedFaults = delta(now.stagedFaults, before.stagedFaults);
    sample.coldFaults = delta(now.coldFaults, before.coldFaults);
    sample.frozenFaults = delta(now.frozenFaults, before.frozenFaults);
    sample.zeroFaults = delta(now.zeroFaults, before.zeroFaults);
    sample.evictedPages = delta(now.evictedPages, before.evictedPages);
    sample.stallNanoseconds = delta(now.stallNanoseconds, before.stallNanoseconds);
    sample.stallRatioMax = now.stallRatio;
    return sample;
}

}  // namespace

HistoryRecorder::HistoryRecorder(EventLoop& loop, db::HistoryStore& store, Source figures, db::Clock clock)
    : loop_(loop), store_(store), figures_(std::move(figures)), clock_(std::move(clock)) {}

void HistoryRecorder::start() {
    timer_ = loop_.every(1s, [this] { tick(); });
}

void HistoryRecorder::tick() {
    const auto now = clock_();
    std::vector<std::pair<std::string, db::Sample>> samples;
    std::map<std::string, Last> seen;
    for (auto& [uuid, status] : figures_()) {
        const auto before = last_.find(uuid);
        if (before == last_.end()) {
            // What was counted before this daemon looked is not of this second: only a base for the next one.
            samples.emplace_back(uuid, sampleOf(now, status, status));
        } else if (before->second.time == now) {
            // The timer's jitter put two turns into one second; its counters wait for the next.
            seen.insert(*before);
            continue;
        } else {
            samples.emplace_back(uuid, sampleOf(now, status, before->second.status));
        }
        seen[uuid] = Last{now, std::move(status)};
    }
    last_ = std::move(seen);
    report(store_.add(samples));
    // A clock that was set back must not stop the roll-up until it has caught up.
    if (now >= lastMaintenance_ + 60s || now < lastMaintenance_) {
        lastMaintenance_ = now;
        report(store_.maintain());
    }
}

void HistoryRecorder::report(const Result<void>& written) {
    if (!written && !failing_) spdlog::error("history is not being written: {}", written.error().message);
    if (written && failing_) spdlog::info("history is being written again");
    failing_ = !written;
}

}  // namespace thermocline
