// SPDX-License-Identifier: Apache-2.0

// How the reclaimer holds a limit: how hard it tries, and when it gives the limit up for a while.

#include <fmt/format.h>

#include <utility>

#include "common/byte_size.h"
#include "memory/reclaimer.h"

namespace thermocline::memory {
namespace {

/// So long reclaim looks in vain before it gives the limit up for a while: not long where the guest waits.
constexpr auto patience = std::chrono::seconds(1);
constexpr auto guestsPatience = std::chrono::milliseconds(100);
constexpr auto cpuPatience = std::chrono::milliseconds(20);
/// Shares of time in which the guest waits for room.
constexpr auto pressureWindow = std::chrono::milliseconds(20);
constexpr double waitsFrom = 0.01;
constexpr double overwhelmedFrom = 0.6;
constexpr double overwhelmedUntil = 0.2;
/// As many pages come with one fault where the guest's accesses are a stream's for the most part.
constexpr double manyPages = 16;

}  // namespace

/// How much of the last moment did the guest wait for us?
void Reclaimer::observePressure() {
    const auto now = Clock::now();
    const auto elapsed = now - pressureSince_;
    if (elapsed < pressureWindow) return;
    const auto waited = guest_.waited();
    const double share = std::chrono::duration<double>(waited - waitedBefore_) / elapsed;
    if (waited != waitedBefore_) waitedLast_ = now;
    pressureSince_ = now;
    waitedBefore_ = waited;
    if (share > overwhelmedFrom || (pressure_ == Pressure::overwhelmed && share > overwhelmedUntil))
        pressure_ = Pressure::overwhelmed;
    else if (share > waitsFrom)
        pressure_ = Pressure::waits;
    else if (now - waitedLast_ > calm)
        pressure_ = Pressure::none;
    observePool();
}

/// What came back in the last moment: is what is staged worth the faults on it, and does the guest wait for
/// many pages at once?
void Reclaimer::observePool() {
    const auto& counters = pager_.counters();
    const auto coldFaults = static_cast<double>(counters.coldFaults + counters.frozenFaults);
    const PoolShare::Back back{static_cast<double>(counters.stagedFaults),
                               static_cast<double>(counters.stagedBack), coldFaults,
                               coldFaults + static_cast<double>(counters.prefetchedPages)};
    const auto before = std::exchange(cameBack_, back);
    const PoolShare::Back since{back.stagedFaults - before.stagedFaults,
                                back.stagedPages - before.stagedPages, back.coldFaults - before.coldFaults,
                                back.coldPages - before.coldPages};
    manyAtOnce_ = since.coldPages > manyPages * since.coldFaults;
    const auto& pages = pager_.pages();
    poolShare_.observe(
        since, pages.count(PageState::staged),
        pages.count(PageState::cold) + pages.count(PageState::filled) + pages.count(PageState::frozen));
}

void Reclaimer::reclaim() {
    const auto madeRoom = [&] {
        progressAt_ = Clock::now();
        budget_.reclaimed();
        guest_.roomMade();
    };
    progressAt_ = Clock::now();
    bool froze = false;
    while (!stop_ && budget_.limit() != 0) {
        const auto action = HardLimitPolicy(budget_.target()).next(usage(), poolShare_.value());
        if (action == HardLimitPolicy::Action::nothing) {
            pager_.dropAllLeftovers();
            break;
        }
        {
            const std::lock_guard lock(mutex_);
            if (changed_) return;
        }
        observePressure();
        pager_.compactStore();
        pager_.keepCopies(pressure_ != Pressure::none);
        if (pressure_ == Pressure::none && dropCopies()) {
            madeRoom();
            continue;
        }
        if (freezeNext()) {
            froze = true;
            madeRoom();
            continue;
        }
        if (evictAdvised()) {
            madeRoom();
            continue;
        }
        // Where nothing more can be staged, what is staged goes; where that is gone too, there is nothing
        // left to take.
        if (action == HardLimitPolicy::Action::stage && stageNext()) continue;
        if (evictOldest()) {
            madeRoom();
            continue;
        }
        pager_.dropAllLeftovers();
        // Round and round among pages that do not compress is no progress.
        const bool mayHelp = inVain_ < 2 * pager_.pages().blocks() && !outOfPatience();
        if (mayHelp && (!clock_.poolEmpty() || (action != HardLimitPolicy::Action::stage && stageNext())))
            continue;
        inVain_ = 0;
        if (dropCopies() || tightenNext()) {
            madeRoom();
            continue;
        }
        return concede(froze);
    }
    budget_.reclaimed();
    if (budget_.target() != budget_.limit()) return;
    respite_ = firstRespite;
    setNote({});
}

/// The limit cannot be met, for a while at least: the guest gets what it needs beyond it, and somebody is
/// told. Where the disk takes what is cold bit by bit, that is no attempt in vain: the next comes soon, or as
/// soon as the disk has written what it has.
void Reclaimer::concede(bool froze) {
    if (froze) respite_ = firstRespite;
    if (respiteUntil_ == Clock::time_point{})
        respiteUntil_ = froze && diskBusy_ ? freezeAgain_ : Clock::now() + respite_;
    budget_.concede(HardLimitPolicy(budget_.limit()).headroom());
    const auto used = budget_.used();
    if (used > budget_.limit())
        setNote(
            fmt::format("{} over the limit with nothing left to take: the pages that are left do not "
                        "compress, are pinned, shared or in use; raise the limit",
                        formatByteSize(used - budget_.limit())));
    guest_.roomMade();
}

bool Reclaimer::outOfPatience() const {
    return Clock::now() - progressAt_ > (guest_.waits() ? Clock::duration(guestsPatience) : patience);
}

/// The guest and the thread that serves its faults take turns on one processor. There our work would hold
/// them up; on another it goes on beside them.
void Reclaimer::keepOffTheFaultsCpu() {
    const int cpu = guest_.cpu();
    if (cpu == avoidedCpu_) return;
    // Not at once: moving costs something, too, and where the guest wanders it would go on for ever.
    const auto now = Clock::now();
    if (now - avoidedSince_ < cpuPatience) return;
    avoidedSince_ = now;
    auto set = allowedCpus_;
    if (cpu >= 0) CPU_CLR(cpu, &set);
    if (CPU_COUNT(&set) == 0) set = allowedCpus_;
    (void)::sched_setaffinity(0, sizeof set, &set);
    avoidedCpu_ = cpu;
}

}  // namespace thermocline::memory
