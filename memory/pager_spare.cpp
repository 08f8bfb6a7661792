// SPDX-License-Identifier: Apache-2.0

// The spare: where a stream goes through a guest that is reclaimed, a huge page is freed for each that is
// made, and the kernel would zero each anew, only for it to be overwritten. So the one that an evicted block
// left in the staging area is kept there, filled with the block that the stream wants next, and moved from
// there to its place.
//
// What a spare holds is another page's bytes. They are never seen: it is moved in only when all of its 512
// pages were overwritten, and stays where it is, a leftover like any other, where that fails. Meanwhile it is
// lent: nobody drops it (takeLeftovers), so that none of its pages can have been replaced by one of zeros;
// nor is anything staged there, since stage() takes no page whose place has a leftover. A manager that dies
// leaves a page in the staging area whose entry is not staged: recover() frees it, as any leftover.

#include "memory/pager.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {

/// REQUIRES: the block's lock.
void Pager::setSpare(Block& block, Spare spare) {
    const auto pages = [](Spare what) { return what == Spare::no ? 0 : pagesPerBlock; };
    sparePages_.fetch_add(pages(spare) - pages(block.spare), std::memory_order_relaxed);
    block.spare = spare;
}

// -- background thread --

/// The huge page that `block` has left is kept, if a stream wants one.
bool Pager::offerSpare(BlockNumber block) {
    if (!spareWanted_.load(std::memory_order_relaxed) || spareBytes() != 0) return false;
    const PriorityMutex::Patient lock(shard(block));
    auto& state = blocks_[block];
    if (state.leftover != allPages() || state.spare != Spare::no) return false;
    setSpare(state, Spare::offered);
    spareSince_ = deciseconds();
    spareWanted_.store(false, std::memory_order_relaxed);
    spare_.store(block, std::memory_order_relaxed);
    return true;
}

void Pager::withdrawSpare() {
    const auto block = spare_.exchange(noBlock, std::memory_order_relaxed);
    if (block == noBlock) return;
    const PriorityMutex::Patient lock(shard(block));
    auto& state = blocks_[block];
    if (state.spare != Spare::offered) return;
    setSpare(state, Spare::no);
    blocksToDrop_.push_back(block);
    pagesToDrop_ += state.leftover.count();
}

/// What may be dropped of the leftovers; it is no spare any more. REQUIRES: the block's lock.
BlockMask Pager::takeLeftovers(BlockNumber block) {
    auto& state = blocks_[block];
    if (state.spare == Spare::lent) return {};
    if (state.spare == Spare::offered) {
        setSpare(state, Spare::no);
        auto offered = block;
        spare_.compare_exchange_strong(offered, noBlock, std::memory_order_relaxed);
    }
    return state.leftover;
}

// -- fault thread --

std::optional<BlockNumber> Pager::takeSpare() {
    spareWanted_.store(true, std::memory_order_relaxed);
    const auto block = spare_.exchange(noBlock, std::memory_order_relaxed);
    if (block == noBlock) return std::nullopt;
    const PriorityMutex::Urgent lock(shard(block));
    auto& state = blocks_[block];
    if (state.spare != Spare::offered) return std::nullopt;
    const bool huge = memory_.isHuge(staged(block));  // small pages would be moved one by one
    setSpare(state, huge ? Spare::lent : Spare::no);
    return huge ? std::optional(block) : std::nullopt;
}

/// `used`: it is not in the staging area any more.
void Pager::returnSpare(BlockNumber block, bool used) {
    const PriorityMutex::Urgent lock(shard(block));
    auto& state = blocks_[block];
    setSpare(state, Spare::no);
    if (!used) return;
    leftoverPages_.fetch_sub(state.leftover.count(), std::memory_order_relaxed);
    state.leftover = {};
}

}  // namespace thermocline::memory
