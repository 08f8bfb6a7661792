// SPDX-License-Identifier: Apache-2.0
#include "daemon/arbiter.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "common/byte_size.h"

namespace thermocline {
namespace {

constexpr std::uint64_t grain = 1U << 20;  ///< of an allotment
constexpr std::uint64_t leastStep = 8U << 20;

struct Claim {
    std::uint64_t floor = 0;
    std::uint64_t want = 0;  ///< no less than the floor
    std::uint64_t have = 0;  ///< no less than what it wants
    std::uint64_t most = 0;
};

struct Part {
    std::uint32_t weight = 0;
    std::uint64_t most = 0;
    std::uint64_t given = 0;
};

Claim claimOf(const ArbiterVm& vm) {
    Claim claim;
    claim.most = vm.ceiling == 0 ? vm.ram : std::min(vm.ram, vm.ceiling);
    // Where the store saves nothing, what the VM has now stays with it.
    claim.floor = std::min(claim.most, std::max(vm.floor, vm.storeNote.empty() ? 0 : vm.used));
    claim.want = std::clamp(vm.need, claim.floor, claim.most);
    claim.have = std::clamp(vm.used, claim.want, claim.most);
    return claim;
}

/// Gives `amount` out in proportion to weights; who has its most leaves the rest to the others.
void pour(std::uint64_t amount, std::vector<Part>& parts) {
    std::vector<Part*> open;
    for (auto& part : parts)
        if (part.most > 0) open.push_back(&part);
    while (!open.empty()) {
        const double weights = std::accumulate(
            open.begin(), open.end(), 0.0, [](double sum, const Part* part) { return sum + part->weight; });
        const double perWeight = static_cast<double>(amount) / weights;
        const auto full = std::partition(open.begin(), open.end(), [&](const Part* part) {
            return static_cast<double>(part->most) > perWeight * part->weight;
        });
        if (full == open.end()) {
            for (auto* const part : open)
                part->given = static_cast<std::uint64_t>(perWeight * part->weight);
            return;
        }
        for (auto part = full; part != open.end(); ++part) {
            (*part)->given = (*part)->most;
            amount -= std::min(amount, (*part)->most);
        }
        open.erase(full, open.end());
    }
}

std::uint64_t saturated(std::uint64_t from, std::uint64_t less) {
    return from > less ? from - less : 0;
}

std::uint64_t effectiveBudget(const db::HostBudget& budget, const HostMemory& host, std::uint64_t cut,
                              Division& division) {
    const std::uint64_t allowed =
        budget.bytes != 0 ? budget.bytes
                          : static_cast<std::uint64_t>(budget.share * static_cast<double>(host.total));
    // What the VMs have, and the host could give them yet.
    const std::uint64_t possible = saturated(division.used + host.available, budget.keepFree);
    division.note = budget.bytes != 0 ? fmt::format("the budget is {}", formatByteSize(allowed))
                                      : fmt::format("the budget is {:.4g} % of {}, {}", budget.share * 100,
                                                    formatByteSize(host.total), formatByteSize(allowed));
    std::uint64_t effective = allowed;
    if (possible < allowed) {
        effective = possible;
        division.note +=
            fmt::format("; {} of it can be given out while {} of {} are kept free", formatByteSize(possible),
                        formatByteSize(budget.keepFree), formatByteSize(host.available));
    }
    if (cut != 0) {
        effective = saturated(effective, cut);
        division.note += fmt::format("; the host is short of memory, so {} less", formatByteSize(cut));
    }
    return effective;
}

std::string share(const ArbiterVm& vm, const Claim& claim, std::uint64_t given, const Division& division,
                  std::uint64_t floors) {
    if (floors > division.budget)
        return fmt::format(
            "the floors of all VMs are {}, more than the {} that there are: it keeps its floor",
            formatByteSize(floors), formatByteSize(division.budget));
    if (given >= claim.most && claim.most < vm.ram)
        return fmt::format("there is enough for its own limit of {}", formatByteSize(claim.most));
    if (given >= claim.most)
        return fmt::format("there is enough for all of its RAM, {}", formatByteSize(vm.ram));
    if (division.need > division.budget) {
        const auto shortage = fmt::format("all VMs need {} of {}", formatByteSize(division.need),
                                          formatByteSize(division.budget));
        if (given >= claim.want)
            return fmt::format("{}; its need of {} is within its share at priority {}", shortage,
                               formatByteSize(claim.want), vm.priority);
        return fmt::format("{}; of its need of {} it gets its floor of {} and its share at priority {}",
                           shortage, formatByteSize(claim.want), formatByteSize(claim.floor), vm.priority);
    }
    if (given < claim.have)
        return fmt::format(
            "its need of {} is met; of what it has beyond that, others need some: its share at priority {}",
            formatByteSize(claim.want), vm.priority);
    return fmt::format("its need of {} is met, with its share at priority {} of what is left over",
                       formatByteSize(claim.want), vm.priority);
}

/// Whether its floor is what it has, since taking more of it would save nothing.
bool isHeld(const ArbiterVm& vm, const Claim& claim) {
    return !vm.storeNote.empty() && claim.floor > std::min(vm.floor, claim.most);
}

std::string because(const ArbiterVm& vm, const Claim& claim, std::uint64_t given, const Division& division,
                    std::uint64_t floors) {
    auto reason = share(vm, claim, given, division, floors);
    if (isHeld(vm, claim))
        reason += fmt::format("; nothing is taken of the {} that it has: {}", formatByteSize(claim.floor),
                              vm.storeNote);
    return reason;
}

}  // namespace

Result<std::uint32_t> parsePriority(std::string_view text) {
    std::uint32_t priority = 0;
    const auto* const end = text.data() + text.size();
    const auto [rest, status] = std::from_chars(text.data(), end, priority);
    if (status == std::errc{} && rest == end && priority >= lowestPriority && priority <= highestPriority)
        return priority;
    return fail(ErrorCode::invalidArgument, fmt::format("priority: \"{}\" is no whole number from {} to {}",
                                                        text, lowestPriority, highestPriority));
}

Division divide(const db::HostBudget& budget, const HostMemory& host, const std::vector<ArbiterVm>& vms,
                std::uint64_t pressureCut) {
    Division division;
    division.inputs = vms;
    std::vector<Claim> claims;
    std::uint64_t floors = 0;
    std::uint64_t most = 0;
    for (const auto& vm : vms) {
        claims.push_back(claimOf(vm));
        division.used += vm.used;
        division.need += claims.back().want;
        floors += claims.back().floor;
        most += claims.back().most;
    }
    division.budget = effectiveBudget(budget, host, pressureCut, division);

    // Floors, then needs, then what they have beyond these, then room to grow.
    std::vector<std::uint64_t> given(vms.size());
    for (std::size_t i = 0; i < vms.size(); ++i)
        given[i] = claims[i].floor;
    std::uint64_t left = saturated(division.budget, floors);
    for (const auto tier : {&Claim::want, &Claim::have, &Claim::most}) {
        std::vector<Part> parts;
        for (std::size_t i = 0; i < vms.size(); ++i)
            parts.push_back({std::clamp(vms[i].priority, lowestPriority, highestPriority),
                             claims[i].*tier - given[i], 0});
        pour(left, parts);
        for (std::size_t i = 0; i < vms.size(); ++i) {
            given[i] += parts[i].given;
            left = saturated(left, parts[i].given);
        }
    }

    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < vms.size(); ++i) {
        if (given[i] < claims[i].most) given[i] = std::max(claims[i].floor, given[i] / grain * grain);
        sum += given[i];
    }
    // What is nearly what it was stays, as long as the budget lets it.
    for (std::size_t i = 0; i < vms.size(); ++i) {
        const std::uint64_t before = vms[i].allotment;
        if (before == 0 || before < claims[i].floor || before > claims[i].most || given[i] == claims[i].most)
            continue;
        const std::uint64_t step = std::max(leastStep, vms[i].ram / 64);
        const std::uint64_t change = before > given[i] ? before - given[i] : given[i] - before;
        if (change >= step || sum - given[i] + before > division.budget) continue;
        sum = sum - given[i] + before;
        given[i] = before;
    }

    std::size_t held = 0;
    for (std::size_t i = 0; i < vms.size(); ++i)
        held += isHeld(vms[i], claims[i]) ? 1 : 0;
    if (held != 0)
        division.note += fmt::format("; nothing more is taken of {} VM{}, since it would save nothing", held,
                                     held == 1 ? "" : "s");
    if (floors > division.budget)
        division.note += fmt::format(
            "; it cannot be kept, since the VMs' floors are {}: raise it, or move a VM to another host",
            formatByteSize(floors));
    for (std::size_t i = 0; i < vms.size(); ++i)
        division.vms.push_back({vms[i].uuid,
                                given[i] >= claims[i].most && floors <= division.budget ? 0 : given[i],
                                because(vms[i], claims[i], given[i], division, floors)});
    return division;
}

}  // namespace thermocline
