// SPDX-License-Identifier: Apache-2.0

// The background half of the pager: moving pages aside, compressing them, bringing them back unasked.

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "memory/pager.h"

namespace thermocline::memory {

// -------------------------------------------------------------------------------------------------------------
// registration

Result<void> Pager::registerGuest() {
    if (registered()) return {};
    const PriorityMutex::Patient layout(layout_);
    for (const auto& extent : addresses_.extents())
        THERMOCLINE_TRY(guest_.registerMissing(extent.range()));
    // From here on pages appear only through us, and we are here; they vanish only after their REMOVE event
    // was read, which takes the lock that we hold. So the scan sees a state that holds until we let go.
    pages_.setAll(0, firstPageOf(pages_.blocks()), PageEntry::absent());
    for (const auto& extent : addresses_.extents()) {
        THERMOCLINE_TRY(memory_.forEachPopulated(extent.range(), [&](VmRange run) {
            pages_.setAll(extent.first + (run.start - extent.start) / pageBytes, run.bytes / pageBytes,
                          PageEntry::resident());
        }));
    }
    registered_ = true;
    return {};
}

Result<bool> Pager::unregisterGuest() {
    if (!registered()) return true;
    const PriorityMutex::Patient layout(layout_);
    if (pages_.count(PageState::staged) + pages_.count(PageState::cold) + pages_.count(PageState::filled) !=
        0)
        return false;
    // A fault that the other thread is about to serve meets an unregistered range: unregistering woke its
    // thread, and the kernel serves it (Populate::unmapped).
    registered_ = false;
    for (const auto& extent : addresses_.extents())
        THERMOCLINE_TRY(guest_.unregister(extent.range()));
    return true;
}

// ------------------------------------------------------------------------------------------------------------------
// staging

std::vector<Pager::Piece> Pager::pieces(BlockNumber block) const {
    std::vector<Piece> found;
    const auto first = firstPageOf(block);
    for (const auto& extent : addresses_.extents()) {
        const auto begin = std::max(first, extent.first);
        const auto end = std::min(first + pagesPerBlock, extent.first + extent.pages);
        if (begin >= end) continue;
        Piece piece;
        for (auto page = begin; page < end; ++page)
            piece.mask.set(page - first);
        // May lie outside of the extent: only the addresses of pages in the mask are used.
        piece.base = {extent.start.value + (begin - extent.first) * pageBytes - (begin - first) * pageBytes};
        found.push_back(piece);
    }
    return found;
}

Step Pager::stage(BlockNumber block) {
    std::optional<VmAddress> whole;
    BlockMask want;
    {
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        if (dropLeftoversLocked(backgroundWorker_, block) == Step::gone) return Step::gone;
        want = pages_.pagesIn(block, PageState::resident);
        // A staged copy that could not be dropped is in the way of its page.
        for (std::size_t w = 0; w < want.words().size(); ++w)
            want.words()[w] &= ~blocks_[block].leftover.words()[w];
        if (!want.any()) return Step::nothing;
        whole = addresses_.wholeBlock(block);
        if (whole && want == allPages() && memory_.isHuge(*whole)) return stageWhole(block, *whole);
    }
    return stagePages(block, want);
}

/// REQUIRES: layout and block locks held.
Step Pager::stageWhole(BlockNumber block, VmAddress address) {
    backgroundWorker_.lane->moveHuge(footprint_.guestUffd, staged(block), address);
    const auto& outcome = backgroundWorker_.lane->run();
    if (outcome.empty()) return Step::gone;
    if (outcome[0].error != 0) return stepOf(outcome[0].error);
    pages_.setAll(firstPageOf(block), pagesPerBlock, PageEntry::staged());
    blocks_[block].stagedWhole = true;
    return Step::done;
}

Step Pager::stagePages(BlockNumber block, BlockMask want) {
    auto result = Step::nothing;
    for (std::size_t from = 0; from < pagesPerBlock; from += movePages) {
        // The locks are dropped between chunks so that a fault never waits for a whole block of small pages;
        // what was wanted may have changed meanwhile.
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        const auto resident = pages_.pagesIn(block, PageState::resident);
        for (const auto& piece : pieces(block)) {
            BlockMask chunk;
            for (auto i = from; i < from + movePages; ++i)
                if (want.test(i) && piece.mask.test(i) && resident.test(i)) chunk.set(i);
            if (!chunk.any()) continue;
            backgroundWorker_.lane->movePages(footprint_.guestUffd, staged(block), piece.base, chunk);
            const auto& outcome = backgroundWorker_.lane->run();
            if (outcome.empty()) return Step::gone;
            outcome[0].moved.forEach([&](std::size_t i) {
                if (!chunk.test(i)) return;
                pages_.set(firstPageOf(block) + i, PageEntry::staged());
                result = Step::done;
            });
            if (outcome[0].error == EAGAIN) return Step::retry;
            if (outcome[0].error == EBUSY && result == Step::nothing) result = Step::pinned;
        }
    }
    return result;
}

bool Pager::takeReferenced(BlockNumber block) {
    return blocks_[block].referenced.exchange(false, std::memory_order_relaxed);
}

BlockMask Pager::stagedPages(BlockNumber block) {
    const PriorityMutex::Patient lock(shard(block));
    return pages_.pagesIn(block, PageState::staged);
}

Step Pager::dropLeftovers(BlockNumber block) {
    const PriorityMutex::Patient lock(shard(block));
    return dropLeftoversLocked(backgroundWorker_, block);
}

// -----------------------------------------------------------------------------------------------------------------
// evicting

Step Pager::evict(BlockNumber block) {
    bool whole = false;
    {
        const PriorityMutex::Patient lock(shard(block));
        if (!pages_.pagesIn(block, PageState::staged).any()) return Step::touched;
        whole = blocks_[block].stagedWhole;
    }
    return whole ? evictWhole(block) : evictPages(block);
}

/// Compresses the given pages of a block that are still staged; one entry for each of them, `absent` for
/// those that are not staged any more, `staged(incompressible)` for those that do not shrink. The entries are
/// not published: only this thread stages, so a page that is still staged when they are has been staged, and
/// unchanged, all the time.
std::vector<PageEntry> Pager::compressChunk(BlockNumber block, const std::vector<std::size_t>& numbers,
                                            Step& step) {
    auto& worker = backgroundWorker_;
    std::vector<PageEntry> entries(numbers.size(), PageEntry::absent());
    std::vector<bool> loaded(numbers.size(), false);
    {
        const PriorityMutex::Patient lock(shard(block));
        for (std::size_t first = 0; first < numbers.size();) {
            std::size_t end = first;
            while (end < numbers.size() && numbers[end] == numbers[first] + (end - first) &&
                   pages_.get(firstPageOf(block) + numbers[end]).state() == PageState::staged)
                ++end;
            if (end == first) {
                ++first;
                continue;
            }
            const auto bytes = std::span(worker.buffer).subspan(first * pageBytes, (end - first) * pageBytes);
            if (const auto read = memory_.read(area_.page(firstPageOf(block) + numbers[first]), bytes);
                !read) {
                step = read.error().code == ErrorCode::processGone ? Step::gone : Step::touched;
                return entries;
            }
            for (; first < end; ++first)
                loaded[first] = true;
        }
    }
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        if (!loaded[i]) continue;
        const PageBytes bytes(page(worker, i));
        if (const auto word = PageCodec::sameFilled(bytes)) {
            entries[i] = PageEntry::filled(*word);
            continue;
        }
        const auto compressed = worker.codec.compress(bytes);
        if (compressed.empty()) {
            entries[i] = PageEntry::staged(true);
            continue;
        }
        const auto slot = store_.put(firstPageOf(block) + numbers[i], compressed);
        if (!slot) {
            step = Step::full;
            return entries;
        }
        entries[i] = PageEntry::cold(*slot);
    }
    return entries;
}

Step Pager::evictPages(BlockNumber block) {
    auto result = Step::touched;
    std::vector<std::size_t> candidates;
    {
        const PriorityMutex::Patient lock(shard(block));
        pages_.pagesIn(block, PageState::staged).forEach([&](std::size_t i) {
            if (!pages_.get(firstPageOf(block) + i).incompressible()) candidates.push_back(i);
        });
    }
    if (candidates.empty()) return Step::poor;
    for (std::size_t from = 0; from < candidates.size(); from += chunkPages) {
        const std::vector<std::size_t> chunk(
            candidates.begin() + static_cast<std::ptrdiff_t>(from),
            candidates.begin() + static_cast<std::ptrdiff_t>(std::min(from + chunkPages, candidates.size())));
        auto step = Step::done;
        const auto entries = compressChunk(block, chunk, step);
        const PriorityMutex::Patient lock(shard(block));
        BlockMask drop;
        for (std::size_t i = 0; i < chunk.size(); ++i) {
            const auto number = firstPageOf(block) + chunk[i];
            if (entries[i].state() == PageState::absent) continue;
            if (pages_.get(number).state() != PageState::staged) {
                release(entries[i]);
                continue;
            }
            // The slot is written; publish it, then drop the page: a crash between the two leaves both, never
            // neither.
            pages_.set(number, entries[i]);
            if (entries[i].state() == PageState::staged) {
                if (result == Step::touched) result = Step::poor;
                continue;
            }
            drop.set(chunk[i]);
            counters_.evictedPages.fetch_add(1, std::memory_order_relaxed);
            result = Step::done;
        }
        addLeftovers(block, drop);
        const bool last = from + chunkPages >= candidates.size();
        if ((last || step != Step::done) && dropLeftoversLocked(backgroundWorker_, block) == Step::gone)
            return Step::gone;
        if (step != Step::done) return step;
    }
    return result;
}

/// A huge page goes as a whole: its slots are written chunk by chunk while it stays one staged huge page that
/// a single touch takes back; only when all are written are they published, in one step, and the huge page
/// freed at once.
Step Pager::evictWhole(BlockNumber block) {
    std::vector<PageEntry> entries;
    entries.reserve(pagesPerBlock);
    const auto giveUp = [&](Step step) {
        for (const auto entry : entries)
            release(entry);
        return step;
    };
    std::size_t poor = 0;
    for (std::size_t from = 0; from < pagesPerBlock; from += chunkPages) {
        std::vector<std::size_t> chunk(chunkPages);
        for (std::size_t i = 0; i < chunkPages; ++i)
            chunk[i] = from + i;
        auto step = Step::done;
        const auto part = compressChunk(block, chunk, step);
        entries.insert(entries.end(), part.begin(), part.end());
        if (step != Step::done) return giveUp(step);
        for (const auto entry : part) {
            if (entry.state() == PageState::absent) return giveUp(Step::touched);
            if (entry.incompressible()) ++poor;
        }
    }
    const PriorityMutex::Patient lock(shard(block));
    auto& state = blocks_[block];
    if (!state.stagedWhole) return giveUp(Step::touched);
    state.stagedWhole = poor == pagesPerBlock;  // nothing gained: it stays one page
    BlockMask drop;
    for (std::size_t i = 0; i < pagesPerBlock; ++i) {
        pages_.set(firstPageOf(block) + i, entries[i]);
        if (entries[i].state() != PageState::staged) drop.set(i);
    }
    counters_.evictedPages.fetch_add(pagesPerBlock - poor, std::memory_order_relaxed);
    addLeftovers(block, drop);
    if (dropLeftoversLocked(backgroundWorker_, block) == Step::gone) return Step::gone;
    return drop.any() ? Step::done : Step::poor;
}

// ----------------------------------------------------------------------------------------------------------------
// restoring

Step Pager::restore(BlockNumber block) {
    const auto staged = restoreStaged(block);
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
    return restoreStored(block);
}

Step Pager::restoreStaged(BlockNumber block) {
    const PriorityMutex::Patient layout(layout_);
    const PriorityMutex::Patient lock(shard(block));
    const auto want = pages_.pagesIn(block, PageState::staged);
    if (!want.any()) return Step::nothing;
    auto result = Step::done;
    for (const auto& piece : pieces(block)) {
        auto mask = want;
        for (std::size_t w = 0; w < mask.words().size(); ++w)
            mask.words()[w] &= piece.mask.words()[w];
        const auto moved = moveIn(backgroundWorker_, block, piece.base, area_.page(firstPageOf(block)), mask);
        if (moved.pages.any()) blocks_[block].stagedWhole = false;
        if (moved.step == Step::gone) return Step::gone;
        if (moved.step != Step::done) result = Step::retry;
    }
    return result;
}

/// A block that is cold from end to end comes back as a huge page, made aside and moved in. `nothing`: not
/// possible now.
Step Pager::restoreWhole(BlockNumber block, VmAddress address) {
    auto& worker = backgroundWorker_;
    if (!makeFreshHuge(worker)) return Step::nothing;
    std::vector<PageEntry> entries;
    for (std::size_t from = 0; from < pagesPerBlock; from += chunkPages) {
        const PriorityMutex::Patient lock(shard(block));
        for (std::size_t i = 0; i < chunkPages; ++i) {
            const auto number = firstPageOf(block) + from + i;
            const auto entry = pages_.get(number);
            const bool stored = entry.state() == PageState::cold || entry.state() == PageState::filled;
            if (!stored || !load(number, entry, worker.codec, page(worker, i))) {
                emptyFresh(worker);
                return Step::nothing;
            }
            entries.push_back(entry);
        }
        if (!memory_.write(worker.fresh.start + from * pageBytes, worker.buffer)) return Step::gone;
    }
    const PriorityMutex::Patient layout(layout_);
    const PriorityMutex::Patient lock(shard(block));
    // What changed meanwhile (a fault, a REMOVE) makes the copy stale: an entry that is still the same was
    // the same all the time, since a slot that is freed and taken again belongs to another page, and a page
    // cannot become cold without us.
    for (std::size_t i = 0; i < pagesPerBlock; ++i) {
        if (pages_.get(firstPageOf(block) + i) == entries[i]) continue;
        emptyFresh(worker);
        return Step::nothing;
    }
    const auto moved = moveIn(worker, block, address, worker.fresh.start, allPages());
    moved.pages.forEach([&](std::size_t i) { release(entries[i]); });
    if (moved.step != Step::done) emptyFresh(worker);
    return moved.step == Step::pinned ? Step::nothing : moved.step;
}

Step Pager::restoreStored(BlockNumber block) {
    auto& worker = backgroundWorker_;
    auto result = Step::nothing;
    const auto first = firstPageOf(block);
    for (std::size_t from = 0; from < pagesPerBlock; from += chunkPages) {
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        for (std::size_t i = from; i < from + chunkPages; ++i) {
            const auto entry = pages_.get(first + i);
            if (entry.state() != PageState::cold && entry.state() != PageState::filled) continue;
            const auto address = addresses_.addressOf(first + i);
            if (!address || !load(first + i, entry, worker.codec, page(worker, 0))) continue;
            std::size_t copied = 0;
            switch (guest_.copy(*address, page(worker, 0), copied)) {
                case Populate::present:
                case Populate::done:
                    pages_.set(first + i, PageEntry::resident());
                    release(entry);
                    result = Step::done;
                    break;
                case Populate::gone:
                    return Step::gone;
                case Populate::retry:
                case Populate::failed:
                case Populate::unmapped:
                    return Step::retry;
            }
        }
    }
    return result;
}

}  // namespace thermocline::memory
