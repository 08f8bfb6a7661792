// SPDX-License-Identifier: Apache-2.0

// What the reclaimer does with the file tier: what is cold for long goes there, and all comes back when it is
// closed.

#include <algorithm>
#include <mutex>

#include "memory/reclaimer.h"
#include "memory/status.h"

namespace thermocline::memory {
namespace {

constexpr auto leastFreezeAge = std::chrono::milliseconds(500);
constexpr auto diskPause = std::chrono::milliseconds(5);

}  // namespace

void Reclaimer::closeFileTier() {
    frozen_->close();
    {
        const std::lock_guard lock(mutex_);
        closeTier_ = true;
        changed_ = true;
    }
    wakeUp();
}

/// How long nothing of a block must have been wanted for it to go to the file tier. A read from there costs
/// some twenty times what one from the store does, and what it frees keeps half a page more in memory; so it
/// pays for pages that are wanted less than a fortieth as often as those that come and go, once in a turnover
/// of memory. Of a block's 512 pages that are wanted at random, each is by far, if none was in half a
/// turnover; where a stream wants them all at once, only if none was in forty.
Pager::FreezeAge Reclaimer::freezeAge() {
    const auto now = Clock::now();
    const auto& pages = pager_.pages();
    const auto inMemory = pages.count(PageState::resident) + pages.count(PageState::staged);
    const std::uint64_t evicted = pager_.counters().evictedPages;
    if (evicted - evictedBefore_ >= inMemory) {
        lastTurnover_ = now - turnoverBegan_;
        turnoverBegan_ = now;
        evictedBefore_ = evicted;
    }
    const auto turnover = std::max(lastTurnover_, now - turnoverBegan_);
    const auto most = frozen_->age();
    const auto half = std::min(most, std::chrono::ceil<std::chrono::milliseconds>(turnover / 2));
    const auto within = [&](std::chrono::milliseconds age) {
        return std::min(most, std::max(leastFreezeAge, age));
    };
    return {within(half), within(80 * half)};
}

/// Moves the next block that has been cold for long to the file tier.
bool Reclaimer::freezeNext() {
    if (frozen_ == nullptr || !frozen_->open() || Clock::now() < freezeAgain_) return false;
    const auto blocks = pager_.pages().blocks();
    const auto age = freezeAge();
    auto pause = Clock::duration(age.scattered) / 8;
    diskBusy_ = false;
    for (std::uint64_t tries = 0; tries < blocks; ++tries) {
        const auto step = pager_.freeze(frozenHand_, age);
        if (step == Step::retry) {
            diskBusy_ = true;
            pause = diskPause;
            break;
        }
        frozenHand_ = (frozenHand_ + 1) % blocks;
        if (step == Step::done) return true;
        if (step == Step::full) break;
    }
    freezeAgain_ = Clock::now() + pause;
    return false;
}

/// The kill switch: the key goes only once nothing needs it any more.
void Reclaimer::emptyFileTier() {
    for (BlockNumber block = 0; block < pager_.pages().blocks() && !stop_; ++block)
        if (pager_.thaw(block) == Step::full) return frozen_->shut("no memory to take its pages back");
    awaitFrozen();
    if (pager_.pages().count(PageState::frozen) != 0) {
        const std::lock_guard lock(mutex_);
        closeTier_ = changed_;
        if (closeTier_) return;  // a new limit came first: the rest of it after that
        return frozen_->shut("not every page could be taken out of it; see the log for the damaged ones");
    }
    const auto killed = frozen_->store().killSwitch();
    frozen_->shut(killed ? std::string(fileTierSwitchedOff) : killed.error().message);
}

/// Waits until what was wanted from the file tier has come, or there is something else to do.
void Reclaimer::awaitFrozen() {
    guest_.wake();
    frozen_->awaitWanted([&] {
        const std::lock_guard lock(mutex_);
        return stop_ || changed_ || guest_.ended();
    });
}

}  // namespace thermocline::memory
