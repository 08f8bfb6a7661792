// SPDX-License-Identifier: Apache-2.0

// Bringing pages back from the store many at a time: as huge pages where they were, and unasked.

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "memory/kernel_abi.h"
#include "memory/pager.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {

Step Pager::restore(BlockNumber block) {
    const auto staged = unstage(block);
    if (staged == Step::retry || staged == Step::gone) return staged;
    std::optional<VmAddress> whole;
    {
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        const auto dropped = dropLeftoversLocked(backgroundWorker_, block);
        if (dropped == Step::gone || dropped == Step::retry) return dropped;
        if (pages_.pagesIn(block, PageState::cold).count() +
                pages_.pagesIn(block, PageState::filled).count() ==
            pagesPerBlock)
            whole = addresses_.wholeBlock(block);
    }
    if (whole) {
        const auto step = restoreWhole(block, *whole);
        if (step != Step::nothing) return step;
    }
    const auto step = restoreStored(block);
    return step == Step::retry || step == Step::gone ? step : Step::done;
}

Step Pager::restorePages(BlockNumber block, const BlockMask& pages) {
    if (pages == allPages()) return restore(block);
    {
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        auto staged = pages_.pagesIn(block, PageState::staged);
        staged &= pages;
        const auto back = moveBack(block, staged);
        if (back == Step::retry || back == Step::gone) return back;
        const auto dropped = dropLeftoversLocked(backgroundWorker_, block);
        if (dropped == Step::gone || dropped == Step::retry) return dropped;
    }
    return restoreStored(block, pages);
}

/// A block that is cold from end to end comes back as a huge page, made aside and moved in. `nothing`: not
/// possible now.
Step Pager::restoreWhole(BlockNumber block, VmAddress address) {
    auto& worker = backgroundWorker_;
    if (!makeFreshHuge(worker)) return Step::nothing;
    std::vector<PageEntry> entries;
    while (entries.size() < pagesPerBlock) {
        const PriorityMutex::Patient lock(shard(block));
        if (fillFresh(worker, block, worker.fresh.start, entries)) continue;
        emptyFresh(worker);
        return Step::nothing;
    }
    sequencePoint("fresh-filled");
    const PriorityMutex::Patient layout(layout_);
    const PriorityMutex::Patient lock(shard(block));
    // What changed meanwhile (a fault, a REMOVE) makes the copy stale: an entry that is still the same was
    // the same all the time, since a slot that is freed and taken again belongs to another page, and a page
    // cannot become cold without us (or frozen, pager_frozen.cpp).
    for (std::size_t i = 0; i < pagesPerBlock; ++i) {
        if (pages_.get(firstPageOf(block) + i) == entries[i]) continue;
        emptyFresh(worker);
        return Step::nothing;
    }
    const auto moved = moveIn(worker, block, address, worker.fresh.start, allPages());
    if (moved.step != Step::done) emptyFresh(worker);
    return moved.step == Step::pinned ? Step::nothing : moved.step;
}

Step Pager::restoreStored(BlockNumber block, const BlockMask& pages) {
    auto result = Step::nothing;
    const auto first = firstPageOf(block);
    const auto wanted = [&](PageNumber page) { return pages.test(page - first); };
    for (std::size_t from = 0; from < pagesPerBlock; from += chunkPages) {
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        for (const auto& extent : addresses_.extents()) {
            const auto end = std::min(first + from + chunkPages, extent.first + extent.pages);
            for (auto begin = std::max(first + from, extent.first); begin < end; ++begin) {
                if (!wanted(begin)) continue;
                auto until = begin + 1;
                while (until < end && wanted(until))
                    ++until;
                const auto address = extent.start + (begin - extent.first) * pageBytes;
                const auto brought = bringStored(backgroundWorker_, begin, address, until - begin);
                if (brought.last == Populate::gone) return Step::gone;
                if (brought.last != Populate::done && brought.last != Populate::present) return Step::retry;
                if (brought.pages > 0) result = Step::done;
                begin = until;
            }
        }
    }
    return result;
}

/// Brings back those of `count` pages (at most chunkPages, in one block, their addresses contiguous) that are
/// in the store, each run of them by one call. REQUIRES: the block's lock; the layout lock or the fault
/// thread.
Pager::Brought Pager::bringStored(Worker& worker, PageNumber first, VmAddress address, std::size_t count) {
    Brought brought;
    for (std::size_t i = 0; i < count;) {
        std::size_t run = 0;
        for (; i + run < count; ++run) {
            const auto entry = pages_.get(first + i + run);
            if (!entry.stored() || !load(first + i + run, entry, worker.codec, page(worker, run))) break;
        }
        if (run == 0) {
            ++i;
            continue;
        }
        std::size_t copied = 0;
        brought.last = putIn(first + i, address + i * pageBytes,
                             std::span(worker.buffer).first(run * pageBytes), copied);
        sequencePoint("brought-back");
        for (std::size_t k = 0; k < copied / pageBytes; ++k)
            cameBack(first + i + k, false);
        brought.pages += copied / pageBytes;
        i += copied / pageBytes;
        if (brought.last == Populate::done || copied > 0) continue;  // short: the next call says why
        // A page that is there counts; whatever else it is ends this.
        if (brought.last != Populate::present) return brought;
        cameBack(first + i, false);
        ++i;
    }
    return brought;
}

/// Fills a huge page at `fresh` with a block that is in the store from end to end; one entry for each of its
/// pages. REQUIRES: the block's lock.
bool Pager::fillFresh(Worker& worker, BlockNumber block, VmAddress fresh, std::vector<PageEntry>& entries) {
    const auto from = entries.size();
    for (std::size_t i = from; i < std::min(from + chunkPages, pagesPerBlock); ++i) {
        const auto number = firstPageOf(block) + i;
        const auto entry = pages_.get(number);
        if (!entry.stored() || !load(number, entry, worker.codec, page(worker, i - from))) return false;
        entries.push_back(entry);
    }
    return memory_.write(fresh + from * pageBytes, worker.buffer).has_value();
}

bool Pager::makeFreshHuge(Worker& worker) {
    if (!moves()) return false;  // it could not be moved in
    worker.lane->populate(worker.fresh.start);
    if (worker.lane->run().empty()) return false;
    if (memory_.isHuge(worker.fresh.start)) return true;
    // Where the last one went into a block that still had a table of small pages, it was split, and its own
    // table is in the way here now. MADV_DONTNEED frees it (Linux 6.14), else MADV_COLLAPSE replaces it. The
    // latter must not make a huge page of what a move left behind: who wants zeros gets fresh as it is.
    worker.lane->advise(worker.fresh, MADV_DONTNEED);
    worker.lane->populate(worker.fresh.start);
    const auto& emptied = worker.lane->run();
    if (emptied.empty() || emptied[0].error != 0) return false;
    if (memory_.isHuge(worker.fresh.start)) return true;
    worker.lane->advise(worker.fresh, abi::madviseCollapse);
    if (worker.lane->run().empty()) return false;
    if (memory_.isHuge(worker.fresh.start)) return true;
    emptyFresh(worker);
    return false;
}

void Pager::emptyFresh(Worker& worker) {
    worker.lane->advise(worker.fresh, MADV_DONTNEED);
    worker.lane->run();
}

/// The kernel does it, or not (pinned pages, no memory); what the pages hold is the same either way, so no
/// lock is needed while it does.
Step Pager::rebuild(BlockNumber block) {
    std::optional<VmAddress> whole;
    {
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        if (!blocks_[block].wasHuge || pages_.pagesIn(block, PageState::resident) != allPages())
            return Step::nothing;
        setWasHuge(block, false);
        whole = addresses_.wholeBlock(block);
    }
    if (!whole || memory_.isHuge(*whole)) return Step::nothing;
    sequencePoint("to-be-collapsed");
    backgroundWorker_.lane->advise({*whole, blockBytes}, abi::madviseCollapse);
    return backgroundWorker_.lane->run().empty() ? Step::gone : Step::done;
}

/// REQUIRES: the block's lock.
void Pager::setWasHuge(BlockNumber block, bool was) {
    auto& state = blocks_[block];
    if (state.wasHuge == was) return;
    state.wasHuge = was;
    if (was)
        splitBlocks_.fetch_add(1, std::memory_order_relaxed);
    else
        splitBlocks_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace thermocline::memory
