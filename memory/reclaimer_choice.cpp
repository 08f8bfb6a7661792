// SPDX-License-Identifier: Apache-2.0

// What the reclaimer stages, evicts and brings back next: what the advice names, what a stream has passed,
// else what the clock's hand comes to.

#include <algorithm>
#include <thread>
#include <utility>

#include "memory/reclaimer.h"

namespace thermocline::memory {
namespace {

constexpr std::uint64_t blocksInVain = 16;
/// So few that they are compressed before a guest that touches everything all the time comes by.
constexpr std::size_t forcedPages = 64;
/// So many turns of the clock's hand pass over what a policy keeps.
constexpr std::uint64_t keptTurns = 2;

}  // namespace

/// Brings back what is staged: it is in the guest's way.
void Reclaimer::unstage() {
    while (!stop_) {
        const auto newest = clock_.takeNewest();
        if (!newest) return;
        (void)pager_.unstage(newest->block);
    }
}

Step Reclaimer::stage(BlockNumber block, Pager::HotBlocks hot, bool passed, bool poorToo) {
    keepOffTheFaultsCpu();
    const auto most = poolShare_.forced() && !passed ? forcedPages : pagesPerBlock;
    const auto step = pager_.stage(block, hot, most, poorToo || mayFreezePoor(block));
    if (pager_.takePutOff()) guest_.wake();
    if (step == Step::done) clock_.staged(block, passed);
    if (step == Step::poor) ++inVain_;
    if (step == Step::gone) stop_ = true;
    if (step == Step::retry) std::this_thread::yield();
    return step;
}

bool Reclaimer::stagePassed() {
    for (;;) {
        BlockNumber block = 0;
        bool whole = false;
        {
            const std::lock_guard lock(passedMutex_);
            if (passed_.empty()) return false;
            block = passed_.front().block;
            whole = passed_.front().whole;
            passed_.pop_front();
        }
        if (const auto* advice = guest_.advice(); advice != nullptr && advice->keeps(block)) continue;
        // As one huge page it is moved, and brought back, at a fraction of the cost.
        if (whole && pager_.rebuild(block) == Step::gone) return false;
        if (stage(block, whole ? Pager::HotBlocks::passed : Pager::HotBlocks::split, true) == Step::done)
            return true;
    }
}

/// What the advice names, whatever its heat: it may know better.
bool Reclaimer::stageAdvised() {
    auto* const advice = guest_.advice();
    while (advice != nullptr && !stop_ && !outOfPatience()) {
        const auto block = advice->toStage();
        if (!block) return false;
        if (stage(*block, Pager::HotBlocks::take) != Step::done) continue;
        advice->carriedOut();
        return true;
    }
    return false;
}

/// What the advice names first, then what a stream has passed; else moves the clock's hand on until one block
/// could be staged; false after as many turns as the hottest page is passed over without one.
bool Reclaimer::stageNext() {
    if (stageAdvised() || stagePassed()) return true;
    const auto* const keeper = guest_.advice();
    const auto blocks = pager_.pages().blocks();
    for (std::uint64_t tries = 0; tries < (1U << Heat::maxLevel) * blocks && !stop_ && !outOfPatience();
         ++tries) {
        const auto block = *clock_.toStage();
        if (keeper != nullptr && tries < keptTurns * blocks && keeper->keeps(block)) continue;
        if (tries < blocks && block == streamAt_.load(std::memory_order_relaxed)) continue;
        if (stage(block, Pager::HotBlocks::split) != Step::done) continue;
        // Forced, it takes a part of the block: the rest comes next.
        if (poolShare_.forced()) clock_.again();
        return true;
    }
    return false;
}

/// LZ4 takes half as much again in the store, and a fraction of the time: what a stream has passed, and
/// others where the guest waits most of the time or gets many pages with each fault, so that what it waits
/// for is their decompressing. Where the store is most of the memory already, the pages that could stay
/// instead would save more than the haste: the guest would wait for good.
Algorithm Reclaimer::algorithm(bool passed) const {
    const auto& pages = pager_.pages();
    const auto inMemory = (pages.count(PageState::resident) + pages.count(PageState::staged)) * pageBytes;
    const bool haste =
        (pressure_ == Pressure::overwhelmed || manyAtOnce_) && store_.storedBytes() < 2 * inMemory;
    return passed || haste ? Algorithm::lz4 : Algorithm::zstd;
}

Step Reclaimer::evict(BlockNumber block, Algorithm algorithm, Pager::Poor poor) {
    const auto step = pager_.evict(block, algorithm, poor);
    if (step == Step::done) {
        inVain_ = 0;
        if (auto* const advice = guest_.advice(); advice != nullptr) advice->wentCold(block);
    }
    if (step == Step::full)
        setNote("the store has no room: free memory for the file system of the run-time directory");
    if (step == Step::gone) stop_ = true;
    return step;
}

/// What does not compress goes to a disk if it is not wanted, as nothing beside it is, or if there is nothing
/// else to take. Cold memory of that kind would stay for good, and the hot set come and go instead.
bool Reclaimer::mayFreezePoor(BlockNumber block) {
    return frozen_ != nullptr && frozen_->open() &&
           (inVain_ >= blocksInVain || pager_.quiet(block, freezeAge().scattered));
}

bool Reclaimer::stagedForLong(const ClockChoice::Staged& oldest) const {
    return frozen_ != nullptr && Clock::now() - oldest.since >=
                                     std::min<Clock::duration>(frozen_->age(), ProactivePolicy::probation);
}

/// Evicts the block that has been staged longest; true where that freed memory.
bool Reclaimer::evictOldest() {
    keepOffTheFaultsCpu();
    while (!stop_ && !outOfPatience()) {
        const auto oldest = clock_.takeOldest();
        if (!oldest) return false;
        const bool freeze = mayFreezePoor(oldest->block) || stagedForLong(*oldest);
        const bool whole = pager_.takeStreamed(oldest->block);
        switch (evict(oldest->block, algorithm(whole || oldest->passed),
                      freeze  ? Pager::Poor::freeze
                      : whole ? Pager::Poor::store
                              : Pager::Poor::moveBack)) {
            case Step::done:
                poolShare_.evicted();
                return true;
            case Step::touched:
                poolShare_.touched();
                break;
            case Step::poor:
                ++inVain_;
                break;
            case Step::full:
            case Step::gone:
                return false;
            default:
                break;
        }
    }
    return false;
}

/// Evicts what the advice names, which need not be staged yet; true where that freed memory.
bool Reclaimer::evictAdvised() {
    auto* const advice = guest_.advice();
    while (advice != nullptr && !stop_ && !outOfPatience()) {
        const auto block = advice->toEvict();
        if (!block) return false;
        // The clock has it in its pool afterwards where some of it stays staged, and only then.
        clock_.forget(*block);
        (void)stage(*block, Pager::HotBlocks::take);
        const auto step = evict(*block, algorithm(false), Pager::Poor::moveBack);
        clock_.forget(*block);
        if (pager_.stagedPages(*block).any()) clock_.staged(*block, false);
        if (step == Step::full) return false;
        if (step != Step::done) continue;
        advice->carriedOut();
        return true;
    }
    return false;
}

/// Brings back what the advice names, as long as there is room and nothing else to do.
void Reclaimer::bringBackAdvised() {
    auto* const advice = guest_.advice();
    while (advice != nullptr && advice->wantsBack() && !stop_) {
        {
            const std::lock_guard lock(mutex_);
            if (workToDo()) return;
        }
        const auto block = advice->toBringBack();
        if (!block || !budget_.hasRoom(blockBytes)) continue;
        const auto step = pager_.restore(*block);
        if (step == Step::gone) stop_ = true;
        if (step == Step::retry) std::this_thread::yield();
        clock_.forget(*block);
        if (pager_.stagedPages(*block).any()) clock_.staged(*block, false);
        if (step == Step::done) advice->carriedOut();
    }
}

}  // namespace thermocline::memory
