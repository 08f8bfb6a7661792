// SPDX-License-Identifier: Apache-2.0

// What the reclaimer makes better of what is there: fewer copies, smaller slots, huge pages.

#include <utility>

#include "memory/reclaimer.h"

namespace thermocline::memory {
namespace {

constexpr auto rebuildPause = std::chrono::seconds(1);

}  // namespace

/// What can be made better while the guest does not wait for us.
void Reclaimer::tidyWhileIdle() {
    const auto idle = [&] {
        const std::lock_guard lock(mutex_);
        return !workToDo() && managed() && Clock::now() - waitedLast_ > calm;
    };
    while (pager_.looseBlocks() > 0 && idle() && tightenNext()) {
    }
    if (pager_.spareBytes() != 0 && idle()) {
        pager_.withdrawSpare();
        pager_.dropAllLeftovers();
    }
    // Where pages still come and go, the huge page would be split again.
    const std::uint64_t evicted = pager_.counters().evictedPages;
    if (std::exchange(evictedLast_, evicted) != evicted) evictedAt_ = Clock::now();
    if (Clock::now() - evictedAt_ < calm) return;
    while (idle() && rebuildNext()) {
    }
}

/// Frees the copies of the next block that has some.
bool Reclaimer::dropCopies() {
    const auto blocks = pager_.pages().blocks();
    for (std::uint64_t tries = 0; tries < blocks && pager_.copyBytes() > 0; ++tries) {
        copyHand_ = (copyHand_ + 1) % blocks;
        if (pager_.dropCopies(copyHand_) == Step::done) return true;
    }
    return false;
}

/// Compresses the next block again that was compressed for speed.
bool Reclaimer::tightenNext() {
    const auto blocks = pager_.pages().blocks();
    for (std::uint64_t tries = 0; tries < blocks && pager_.looseBlocks() > 0; ++tries) {
        looseHand_ = (looseHand_ + 1) % blocks;
        if (pager_.tighten(looseHand_) == Step::done) return true;
    }
    return false;
}

/// Makes one huge page of the next block that was one and is all there again.
bool Reclaimer::rebuildNext() {
    if (pager_.splitBlocks() == 0 || Clock::now() < rebuildAgain_) return false;
    const auto blocks = pager_.pages().blocks();
    for (std::uint64_t tries = 0; tries < blocks && budget_.hasRoom(blockBytes); ++tries) {
        splitHand_ = (splitHand_ + 1) % blocks;
        const auto step = pager_.rebuild(splitHand_);
        if (step == Step::gone) stop_ = true;
        if (step != Step::nothing) return !stop_;
    }
    rebuildAgain_ = Clock::now() + rebuildPause;
    return false;
}

}  // namespace thermocline::memory
