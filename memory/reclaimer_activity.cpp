// SPDX-License-Identifier: Apache-2.0

// What the reclaimer does while the VM does not simply run (activity.h).
//
// All of it is made of the same steps as reclaim under a limit, and of bringing back when one is lifted, so
// that faults, REMOVE events and the end of anything meet nothing new: a VM that runs on while we take it for
// paused, or is paused while we take it for running, loses time, never a byte.

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

#include "memory/host_room.h"
#include "memory/reclaimer.h"

namespace thermocline::memory {
namespace {

/// Pages that may come back while the VM is paused (its devices, a look from outside) before we take them
/// again.
constexpr std::uint64_t strayPages = 256;

}  // namespace

void Reclaimer::setActivity(Activity activity) {
    {
        const std::lock_guard lock(mutex_);
        if (activity_ == activity) return;
        activity_ = activity;
        changed_ = true;
        restored_ = false;
        restoreError_.reset();
        restoring_ = bringsAllBack();
    }
    wakeUp();
}

Activity Reclaimer::activity() const {
    const std::lock_guard lock(mutex_);
    return activity_;
}

/// Whoever reads all of the guest's memory reads it in the order of addresses, once or, while the guest runs,
/// a few times. To take pages meanwhile would be to fight it: so nothing is taken, and what is away comes
/// back in that order, ahead of the reader. The limit waits until that is over, unless the host has not the
/// memory; then it holds, and the reader's faults bring what it wants as any stream does. False then.
bool Reclaimer::bringBackInOrder() {
    if (hostShort_) return false;
    if (!std::exchange(limitWaits_, true)) {
        clock_.clearPool();
        workingSet_.clear();
        setNote(
            "all of its memory is being read (migration, save or dump): the limit waits for the end of that");
    }
    budget_.lift();
    guest_.roomMade();
    while (!stop_) {
        {
            const std::lock_guard lock(mutex_);
            if (changed_) return true;
        }
        if (nextInOrder_ % 32 == 0 && hostAvailableBytes() < hostShareBytes() + 32 * blockBytes) break;
        if (nextInOrder_ == pager_.pages().blocks()) return true;
        switch (pager_.restore(nextInOrder_)) {
            case Step::retry:
                std::this_thread::yield();
                continue;
            case Step::gone:
                stop_ = true;
                return true;
            default:
                break;
        }
        if (frozen_ != nullptr && pager_.restoreFrozen(nextInOrder_)) guest_.wake();
        ++nextInOrder_;
    }
    hostShort_ = true;
    restoring_ = false;
    endOfCopying();
    return false;
}

/// The limit holds again.
void Reclaimer::endOfCopying() {
    if (!std::exchange(limitWaits_, false)) return;
    budget_.withdraw();
    setNote({});
}

/// Everything goes, what was not hot first: so the end of the list is what the guest worked with, and comes
/// back first. What it had in memory is remembered page by page, since a page that is cold does not tell how
/// long it has been.
void Reclaimer::freezePaused() {
    const auto& pages = pager_.pages();
    const auto inMemory = [&] { return pages.count(PageState::resident) + pages.count(PageState::staged); };
    const auto leave = [&] {
        const std::lock_guard lock(mutex_);
        return stop_ || changed_;
    };
    if (leftInMemory_ == 0 || inMemory() > leftInMemory_ + strayPages) {
        pager_.keepCopies(false);
        const std::uint64_t evictedBefore = pager_.counters().evictedPages;
        const auto found = pager_.inMemory();
        if (leftInMemory_ == 0) rememberWorkingSet(found);
        for (auto part = found.rbegin(); part != found.rend() && !leave(); ++part) {
            (void)stage(part->block, Pager::HotBlocks::take, false, frozen_ != nullptr);
            const auto poor = frozen_ != nullptr ? Pager::Poor::freeze : Pager::Poor::moveBack;
            if (evict(part->block, Algorithm::zstd, poor) == Step::full) break;
            guest_.roomMade();
        }
        // No stream goes on in a VM that is paused; a spare would be room that what comes back has not.
        pager_.withdrawSpare();
        pager_.dropAllLeftovers();
        if (leave()) return;
        while (dropCopies()) {
        }
        // What came back meanwhile goes the next time; what stays where nothing goes any more is left.
        const bool tookAny = pager_.counters().evictedPages != evictedBefore;
        leftInMemory_ = tookAny ? 1 : std::max<std::uint64_t>(inMemory(), 1);
    }
    while (!leave() && freezeNext()) {
    }
}

/// What an earlier pause took, and its end did not bring back yet, comes after that.
void Reclaimer::rememberWorkingSet(const std::vector<Pager::InMemory>& found) {
    std::set<BlockNumber> blocks;
    for (const auto& part : found)
        blocks.insert(part.block);
    std::erase_if(workingSet_, [&](const auto& part) { return blocks.contains(part.block); });
    workingSet_.insert(workingSet_.begin(), found.begin(), found.end());
}

/// The guest runs again: what it had in memory when it was paused comes back unasked, the hottest first, as
/// far as the limit has room. (Without a limit and a policy everything does: restore().)
void Reclaimer::restoreWorkingSet() {
    leftInMemory_ = 0;
    while (!workingSet_.empty() && !stop_) {
        {
            const std::lock_guard lock(mutex_);
            if (changed_) return;
        }
        const auto& part = workingSet_.front();
        const auto bytes = part.pages.count() * pageBytes;
        const bool room =
            budget_.limit() == 0 || !HardLimitPolicy(budget_.target()).mustStart(budget_.used() + bytes);
        // What came back has left holes in the store.
        if (!room && (dropCopies() || pager_.compactStore() == Step::done)) continue;
        if (!room || hostAvailableBytes() < hostReserveBytes + blockBytes) {
            workingSet_.clear();
            return;
        }
        switch (pager_.restorePages(part.block, part.pages)) {
            case Step::retry:
                std::this_thread::yield();
                continue;
            case Step::gone:
                stop_ = true;
                return;
            default:
                break;
        }
        if (frozen_ != nullptr && pager_.restoreFrozen(part.block)) guest_.wake();
        workingSet_.pop_front();
    }
}

}  // namespace thermocline::memory
