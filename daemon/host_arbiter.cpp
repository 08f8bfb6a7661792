// SPDX-License-Identifier: Apache-2.0
#include "daemon/host_arbiter.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "common/byte_size.h"
#include "daemon/host_budget.h"
#include "daemon/limit_range.h"

namespace thermocline {
namespace {

using namespace std::chrono_literals;

std::string allotmentText(std::uint64_t allotment) {
    return allotment == 0 ? "not bound" : formatByteSize(allotment);
}

}  // namespace

HostArbiter::HostArbiter(EventLoop& loop, db::Database& database, db::HostBudget configured, Outside outside)
    : loop_(loop),
      store_(database),
      decisions_(database),
      configured_(configured),
      budget_(configured),
      outside_(std::move(outside)) {
    if (const auto saved = store_.load(); !saved)
        spdlog::error("the host's budget cannot be read: {}", saved.error().message);
    else if (*saved)
        budget_ = **saved;
}

void HostArbiter::start() {
    timer_ = loop_.every(1s, [this] { tick(); });
    if (auto pressure = HostPressure::watch(loop_, [this] { pressed(); }))
        pressure_ = std::move(*pressure);
    else
        spdlog::warn("{}; a budget is kept without it", pressure.error().message);
}

Result<void> HostArbiter::setBudget(const std::optional<db::HostBudget>& budget) {
    THERMOCLINE_TRY(store_.save(budget));
    const auto before = std::exchange(budget_, budget.value_or(configured_));
    if (budget_ != before) {
        const auto text = fmt::format("the host's budget is {} now, {} are kept free",
                                      formatHostBudget(budget_), formatByteSize(budget_.keepFree));
        spdlog::info("{}", text);
        record({{{}, {}, before.bytes, budget_.bytes, text}});
    }
    if (!budget_.on()) release();
    tick();
    outside_.changed();
    return {};
}

void HostArbiter::observe(const std::vector<Vm>& vms) {
    std::map<std::string, MemoryNeed> seen;
    for (const auto& vm : vms) {
        auto known = needs_.extract(vm.uuid);
        auto& need = known.empty() ? seen[vm.uuid] : seen.insert(std::move(known)).position->second;
        need.observe(outside_.now(), vm.status);
    }
    needs_ = std::move(seen);
}

std::vector<ArbiterVm> HostArbiter::inputs(const std::vector<Vm>& vms) const {
    std::vector<ArbiterVm> inputs;
    for (const auto& vm : vms) {
        const auto need = needs_.find(vm.uuid);
        const bool known = need != needs_.end();
        inputs.push_back({vm.uuid, vm.priority, vm.status.memoryBytes,
                          std::max(lowestLimit(vm.status.memoryBytes), vm.minResident),
                          known ? need->second.bytes() : vm.status.residentBytes, vm.status.usedBytes,
                          vm.ceiling, vm.allotment,
                          known ? need->second.storeNote(outside_.now()) : std::string()});
    }
    return inputs;
}

Result<Division> HostArbiter::plan(const db::HostBudget& budget) const {
    if (!budget.on())
        return fail(
            ErrorCode::invalidArgument,
            "the host has no budget, so nobody is bound; name one to see what it would do (thermoctl plan "
            "--budget 75%)");
    const auto memory = outside_.memory();
    if (!memory) return tl::unexpected<Error>(memory.error());
    return divide(budget, *memory, inputs(outside_.vms()), relief_.cut(outside_.now()));
}

void HostArbiter::tick() {
    const auto vms = outside_.vms();
    observe(vms);
    if (budget_.on()) apply(vms);
}

void HostArbiter::pressed() {
    if (!budget_.on()) return;
    const auto vms = outside_.vms();
    std::uint64_t used = 0;
    for (const auto& vm : vms)
        used += vm.status.usedBytes;
    const auto before = relief_.cut(outside_.now());
    if (!relief_.pressed(outside_.now(), used)) return;
    const auto cut = relief_.cut(outside_.now());
    // One line for each time that it becomes short, not for each second of it.
    if (before == 0)
        record({{{},
                 {},
                 used,
                 used - std::min(used, cut),
                 fmt::format(
                     "the host waits for memory (PSI): {} less than the budget for the VMs, and more while "
                     "it lasts",
                     formatByteSize(cut))}});
    apply(vms);
}

void HostArbiter::apply(const std::vector<Vm>& vms) {
    const auto memory = outside_.memory();
    if (!memory) return say(memory.error().message);
    const auto division = divide(budget_, *memory, inputs(vms), relief_.cut(outside_.now()));
    std::vector<db::Decision> made;
    for (std::size_t i = 0; i < vms.size(); ++i) {
        const auto& allotment = division.vms[i];
        if (allotment.bytes == vms[i].allotment) continue;
        spdlog::info("domain {}: allotment {}: {}", allotment.uuid, allotmentText(allotment.bytes),
                     allotment.reason);
        made.push_back({{}, allotment.uuid, vms[i].allotment, allotment.bytes, allotment.reason});
        outside_.allot(allotment.uuid, allotment.bytes, allotment.reason);
    }
    available_ = division.budget;
    record(made);
    say(division.note);
}

void HostArbiter::release() {
    available_ = 0;
    std::vector<db::Decision> made;
    for (const auto& vm : outside_.vms()) {
        if (vm.allotment == 0) continue;
        made.push_back({{}, vm.uuid, vm.allotment, 0, "the host has no budget any more"});
        outside_.allot(vm.uuid, 0, {});
    }
    record(made);
    say({});
}

void HostArbiter::say(const std::string& note) {
    if (note == note_) return;
    note_ = note;
    outside_.changed();
}

void HostArbiter::record(const std::vector<db::Decision>& decisions) {
    const auto written = decisions_.add(decisions);
    if (!written && !failing_) spdlog::error("decisions are not being written: {}", written.error().message);
    failing_ = !written;
}

}  // namespace thermocline
