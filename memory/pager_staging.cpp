// SPDX-License-Identifier: Apache-2.0

// The pager's staging area: what goes there, what comes back from there, what is left there.

#include <spdlog/spdlog.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "memory/pager.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {
namespace {

/// The guest may have written something else into a page that did not compress.
constexpr std::uint32_t decisecondsPoor = 100;
/// A stream that takes no block whole for so long has ended.
constexpr std::uint32_t decisecondsSpare = 2;

}  // namespace

Step Pager::stage(BlockNumber block, HotBlocks hot, std::size_t mostPages, bool poorToo) {
    if (dropLeftovers(block) == Step::gone) return Step::gone;
    // Harmless, but in vain: evict() would not take what a device may write to.
    if (unmaps())
        if (const auto refused = refuseWherePinned(); refused != Step::done) return refused;
    BlockMask want;
    {
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        want = pages_.pagesIn(block, PageState::resident);
        // A staged copy that could not be dropped is in the way of its page.
        want -= blocks_[block].leftover;
        blocks_[block].streamed |= hot == HotBlocks::passed;
        if (!want.any()) return Step::nothing;
        if (!poorToo) passOverPoor(block, want, hot);
        if (!want.any()) return Step::poor;
        const auto whole = addresses_.wholeBlock(block);
        if (whole && want == allPages() && memory_.isHuge(*whole)) {
            auto& state = blocks_[block];
            setWasHuge(block, !unmaps());
            if (moves()) {
                if (hot == HotBlocks::take || hot == HotBlocks::passed ||
                    (state.heat.skip == 0 && (state.heat.level == 0 || hot == HotBlocks::passOver)))
                    return stageWhole(block, *whole);
                if (hot == HotBlocks::passOver) {
                    --state.heat.skip;
                    return Step::hot;
                }
            }
            state.heat = {};
        }
        if (hot != HotBlocks::take) passOverHot(block, want, hot);
        for (std::size_t i = 0, taken = 0; i < pagesPerBlock; ++i)
            if (want.test(i) && ++taken > mostPages) want.clear(i);
    }
    return want.any() ? stagePages(block, want) : Step::hot;
}

/// Takes out of `want` the pages that were found not to compress a short while ago: whatever is tried with
/// them costs as much as making another page cold, in vain. REQUIRES: the block's lock.
void Pager::passOverPoor(BlockNumber block, BlockMask& want, HotBlocks hot) const {
    if (deciseconds() - blocks_[block].foundPoor >= decisecondsPoor) return;
    BlockMask poor;
    want.forEach([&](std::size_t i) {
        if (pages_.get(firstPageOf(block) + i).incompressible()) poor.set(i);
    });
    if (hot != HotBlocks::passed || poor.count() > fewPoor) want -= poor;
}

/// Takes out of `want` the pages that are to be passed over this time. REQUIRES: the block's lock.
void Pager::passOverHot(BlockNumber block, BlockMask& want, HotBlocks hot) {
    for (std::size_t i = 0; i < pagesPerBlock; ++i) {
        if (!want.test(i)) continue;
        const auto entry = pages_.get(firstPageOf(block) + i);
        auto heat = entry.heat();
        // What does not compress was called hot for want of a use for it.
        if (heat.skip == 0 || (hot == HotBlocks::passed && entry.incompressible())) continue;
        --heat.skip;
        pages_.set(firstPageOf(block) + i,
                   PageEntry::resident(heat, entry.slot()).asIncompressible(entry.incompressible()));
        want.clear(i);
    }
}

void Pager::movedAside(PageNumber number) {
    const auto entry = pages_.get(number);
    pages_.set(number, PageEntry::staged(entry.heat().level, entry.slot()));
}

/// REQUIRES: layout and block locks held.
Step Pager::stageWhole(BlockNumber block, VmAddress address) {
    backgroundWorker_.lane->moveHuge(footprint_.guestUffd, staged(block), address);
    const auto& outcome = backgroundWorker_.lane->run();
    if (outcome.empty()) return Step::gone;
    sequencePoint("moved-aside-whole");
    if (outcome[0].error != 0) return stepOf(outcome[0].error);
    for (auto number = firstPageOf(block); number < firstPageOf(block + 1); ++number)
        movedAside(number);
    blocks_[block].stagedWhole = true;
    return Step::done;
}

Step Pager::stagePages(BlockNumber block, BlockMask want) {
    auto result = Step::nothing;
    while (want.any()) {
        // The locks are dropped between chunks so that a fault never waits for a whole block of small pages;
        // what was wanted may have changed meanwhile.
        BlockMask chunk;
        const auto most = moves() ? movePages : unmaps() ? unmapPages : chunkPages;
        for (std::size_t i = 0, taken = 0; i < pagesPerBlock && taken < most; ++i) {
            if (!want.test(i)) continue;
            want.clear(i);
            chunk.set(i);
            ++taken;
        }
        auto last = Step::nothing;
        {
            const PriorityMutex::Patient layout(layout_);
            const PriorityMutex::Patient lock(shard(block));
            const auto resident = pages_.pagesIn(block, PageState::resident);
            for (const auto& piece : pieces(block)) {
                auto part = chunk;
                part &= piece.mask;
                part &= resident;
                if (!part.any()) continue;
                last = moves()    ? moveAside(block, piece.base, part)
                       : unmaps() ? unmapAside(block, piece.base, part)
                                  : copyAside(block, piece.base, part);
                if (last == Step::done || result == Step::nothing) result = last;
                if (last == Step::gone || last == Step::retry) break;
            }
        }
        if (dropCopied() == Step::gone) return Step::gone;
        if (last == Step::gone || last == Step::retry) return last;
        if (last == Step::pinned && !moves()) return result;  // as would be all others
    }
    return result;
}

/// Moves the wanted pages of one piece to the staging area. REQUIRES: layout and block locks held.
Step Pager::moveAside(BlockNumber block, VmAddress base, const BlockMask& want) {
    backgroundWorker_.lane->movePages(footprint_.guestUffd, staged(block), base, want);
    const auto& outcome = backgroundWorker_.lane->run();
    if (outcome.empty()) return Step::gone;
    sequencePoint("moved-aside");
    outcome[0].pages.forEach([&](std::size_t i) { movedAside(firstPageOf(block) + i); });
    if (outcome[0].error == EAGAIN) return Step::retry;
    if (outcome[0].pages.any()) return Step::done;
    return outcome[0].error == EBUSY ? Step::pinned : Step::nothing;
}

Step Pager::unstage(BlockNumber block) {
    const PriorityMutex::Patient layout(layout_);
    const PriorityMutex::Patient lock(shard(block));
    return moveBack(block, pages_.pagesIn(block, PageState::staged));
}

/// Pages that do not compress are no use where they are: they go back, and are left alone for long.
Step Pager::unstageIncompressible(BlockNumber block) {
    const PriorityMutex::Patient layout(layout_);
    const PriorityMutex::Patient lock(shard(block));
    BlockMask poor;
    for (std::size_t i = 0; i < pagesPerBlock; ++i)
        if (pages_.get(firstPageOf(block) + i).incompressible()) poor.set(i);
    blocks_[block].foundPoor = deciseconds();
    const auto result = moveBack(block, poor);
    constexpr auto longest = Heat{Heat::maxLevel, (1U << Heat::maxLevel) - 1};
    if (poor == allPages()) blocks_[block].heat = longest;
    poor.forEach([&](std::size_t i) {
        if (pages_.get(firstPageOf(block) + i).state() == PageState::resident)
            pages_.set(firstPageOf(block) + i, PageEntry::resident(longest).asIncompressible());
    });
    return result;
}

/// REQUIRES: layout and block locks held.
Step Pager::moveBack(BlockNumber block, const BlockMask& want) {
    if (!want.any()) return Step::nothing;
    auto result = Step::done;
    for (const auto& piece : pieces(block)) {
        auto mask = want;
        mask &= piece.mask;
        if (!mask.any()) continue;
        const auto moved = moves()    ? moveIn(backgroundWorker_, block, piece.base, staged(block), mask)
                           : unmaps() ? mapBack(block, piece.base, mask)
                                      : copyBack(backgroundWorker_, block, piece.base, mask);
        if (moved.pages.any()) blocks_[block].stagedWhole = false;
        if (moved.step == Step::gone) return Step::gone;
        if (moved.step != Step::done) result = Step::retry;
    }
    return result;
}

void Pager::addLeftovers(BlockNumber block, const BlockMask& mask) {
    auto& leftover = blocks_[block].leftover;
    const auto before = leftover.count();
    leftover |= mask;
    leftoverPages_.fetch_add(leftover.count() - before, std::memory_order_relaxed);
}

/// Without the block's lock while the agent works: a leftover cannot become a staged page meanwhile, since
/// only this thread stages.
Step Pager::dropLeftovers(BlockNumber block) {
    BlockMask wanted;
    {
        const PriorityMutex::Patient lock(shard(block));
        wanted = takeLeftovers(block);
    }
    if (!wanted.any()) return Step::nothing;
    const auto moved = moveToDrop(backgroundWorker_, block, wanted);
    if (!moved) return Step::gone;
    const PriorityMutex::Patient lock(shard(block));
    return forgetLeftovers(block, *moved);
}

Step Pager::dropLeftoversLocked(Worker& worker, BlockNumber block) {
    const auto wanted = takeLeftovers(block);
    if (!wanted.any()) return Step::nothing;
    const auto moved = moveToDrop(worker, block, wanted);
    return moved ? forgetLeftovers(block, *moved) : Step::gone;
}

/// A call of the agent costs as much as many pages, so blocks are dropped several at a time.
Step Pager::dropLater(BlockNumber block) {
    {
        const PriorityMutex::Patient lock(shard(block));
        pagesToDrop_ += blocks_[block].leftover.count();
    }
    blocksToDrop_.push_back(block);
    return pagesToDrop_ >= dropPages ? dropAllLeftovers() : Step::done;
}

Step Pager::dropAllLeftovers() {
    if (spareBytes() != 0 && deciseconds() - spareSince_ >= decisecondsSpare) withdrawSpare();
    // Those of faults on staged pages, too, once they are as many.
    if (leftoverPages() >= pagesToDrop_ + dropPages + sparePages_) {
        blocksToDrop_.clear();
        for (BlockNumber block = 0; block < blocks_.size(); ++block) {
            const PriorityMutex::Patient lock(shard(block));
            if (blocks_[block].leftover.any() && blocks_[block].spare == Spare::no)
                blocksToDrop_.push_back(block);
        }
    }
    pagesToDrop_ = 0;
    while (!blocksToDrop_.empty()) {
        struct Drop {
            BlockNumber block;
            BlockMask wanted;
            bool all;  // nothing else of the block is staged
        };
        std::vector<Drop> batch;
        for (; !blocksToDrop_.empty() && batch.size() < THERMOCLINE_MAX_OPERATIONS / 2;
             blocksToDrop_.pop_back()) {
            const auto block = blocksToDrop_.back();
            const PriorityMutex::Patient lock(shard(block));
            if (const auto wanted = takeLeftovers(block); wanted.any())
                batch.push_back({block, wanted, !pages_.pagesIn(block, PageState::staged).any()});
        }
        // Most often all that is left of a block goes. Then one MADV_DONTNEED frees it where it is, while the
        // staging area raises no events: it is not registered meanwhile. Nobody needs it to be but stage(),
        // which is this thread's.
        const bool quiet =
            moves() && std::any_of(batch.begin(), batch.end(), [](const Drop& drop) { return drop.all; }) &&
            guest_.unregister(area_.staging()).has_value();
        for (const auto& drop : batch) {
            if (quiet && drop.all)
                backgroundWorker_.lane->advise({staged(drop.block), blockBytes}, MADV_DONTNEED);
            else
                queueDrop(backgroundWorker_, drop.block, drop.wanted);
        }
        const auto outcomes = backgroundWorker_.lane->run();
        sequencePoint("dropped");
        if (quiet) {
            if (const auto again = guest_.registerMissing(area_.staging()); !again && !outcomes.empty())
                spdlog::critical(
                    "the staging area cannot be registered again, nothing more can be reclaimed: {}",
                    again.error().message);
        }
        if (outcomes.empty() && !batch.empty()) return Step::gone;
        auto outcome = outcomes.begin();
        for (const auto& drop : batch) {
            const bool whole = quiet && drop.all;
            const PriorityMutex::Patient lock(shard(drop.block));
            forgetLeftovers(drop.block, !whole                ? outcome->pages
                                        : outcome->error == 0 ? drop.wanted
                                                              : BlockMask());
            outcome += whole || !moves() ? 1 : 2;
        }
    }
    return Step::done;
}

/// Frees pages of the staging area at the next run, by two operations (one where pages are copied); the first
/// tells which could be. Not MADV_DONTNEED where they are: the staging area raises events like guest RAM, and
/// we are their only reader. So they are moved to an area without events first; the whole block as one page
/// if it is one. Where pages are copied the staging area raises none.
void Pager::queueDrop(Worker& worker, BlockNumber block, const BlockMask& wanted) {
    if (!moves()) return worker.lane->advisePages(staged(block), MADV_DONTNEED, wanted);
    worker.lane->movePages(footprint_.dropUffd, worker.drop.start, staged(block), wanted);
    worker.lane->advise(worker.drop, MADV_DONTNEED);
}

/// The pages that were dropped; nothing where the process is gone.
std::optional<BlockMask> Pager::moveToDrop(Worker& worker, BlockNumber block, const BlockMask& wanted) {
    queueDrop(worker, block, wanted);
    const auto& outcome = worker.lane->run();
    if (outcome.empty()) return std::nullopt;
    return outcome[0].pages;
}

/// REQUIRES: the block's lock.
Step Pager::forgetLeftovers(BlockNumber block, const BlockMask& moved) {
    auto& leftover = blocks_[block].leftover;
    const auto before = leftover.count();
    leftover -= moved;
    if (leftover.any()) {
        // The truth is what is in the staging area.
        BlockMask there;
        (void)memory_.forEachPopulated({staged(block), blockBytes}, [&](VmRange run) {
            for (auto at = run.start; at < run.end(); at = at + pageBytes)
                there.set((at - staged(block)) / pageBytes);
        });
        leftover &= there;
    }
    leftoverPages_.fetch_sub(before - leftover.count(), std::memory_order_relaxed);
    return leftover.any() ? Step::retry : Step::done;
}

}  // namespace thermocline::memory
