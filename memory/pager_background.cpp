// SPDX-License-Identifier: Apache-2.0

// The background half of the pager: moving pages aside, compressing them, bringing them back unasked.

#include <spdlog/spdlog.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <numeric>
#include <utility>

#include "memory/kernel_abi.h"
#include "memory/pager.h"

namespace thermocline::memory {

// -------------------------------------------------------------------------------------------------------------
// registration

Result<void> Pager::registerGuest() {
    if (registered()) return {};
    const PriorityMutex::Patient layout(layout_);
    // A fault that was read before the last unregistering may still be on its way: no entry changes under us.
    std::deque<PriorityMutex::Patient> blocks;
    for (auto& mutex : shards_)
        blocks.emplace_back(mutex);
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
    if (pages_.count(PageState::staged) + pages_.count(PageState::cold) + pages_.count(PageState::filled) +
            copyBytes() !=
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

Step Pager::stage(BlockNumber block, HotBlocks hot, std::size_t mostPages) {
    if (dropLeftovers(block) == Step::gone) return Step::gone;
    BlockMask want;
    {
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        want = pages_.pagesIn(block, PageState::resident);
        // A staged copy that could not be dropped is in the way of its page.
        for (std::size_t w = 0; w < want.words().size(); ++w)
            want.words()[w] &= ~blocks_[block].leftover.words()[w];
        if (!want.any()) return Step::nothing;
        const auto whole = addresses_.wholeBlock(block);
        if (whole && want == allPages() && memory_.isHuge(*whole)) {
            auto& state = blocks_[block];
            state.wasHuge = true;
            if (state.heat.skip == 0 && (state.heat.level == 0 || hot == HotBlocks::passOver))
                return stageWhole(block, *whole);
            if (hot == HotBlocks::passOver) {
                --state.heat.skip;
                return Step::hot;
            }
            state.heat = {};
        }
        passOverHot(block, want);
        for (std::size_t i = 0, taken = 0; i < pagesPerBlock; ++i)
            if (want.test(i) && ++taken > mostPages) want.clear(i);
    }
    return want.any() ? stagePages(block, want) : Step::hot;
}

/// Takes out of `want` the pages that are to be passed over this time. REQUIRES: the block's lock.
void Pager::passOverHot(BlockNumber block, BlockMask& want) {
    for (std::size_t i = 0; i < pagesPerBlock; ++i) {
        if (!want.test(i)) continue;
        const auto entry = pages_.get(firstPageOf(block) + i);
        auto heat = entry.heat();
        if (heat.skip == 0) continue;
        --heat.skip;
        pages_.set(firstPageOf(block) + i, PageEntry::resident(heat, entry.slot()));
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
        for (std::size_t i = 0, taken = 0; i < pagesPerBlock && taken < movePages; ++i) {
            if (!want.test(i)) continue;
            want.clear(i);
            chunk.set(i);
            ++taken;
        }
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        const auto resident = pages_.pagesIn(block, PageState::resident);
        for (const auto& piece : pieces(block)) {
            auto part = chunk;
            for (std::size_t w = 0; w < part.words().size(); ++w)
                part.words()[w] &= piece.mask.words()[w] & resident.words()[w];
            if (!part.any()) continue;
            backgroundWorker_.lane->movePages(footprint_.guestUffd, staged(block), piece.base, part);
            const auto& outcome = backgroundWorker_.lane->run();
            if (outcome.empty()) return Step::gone;
            outcome[0].moved.forEach([&](std::size_t i) {
                movedAside(firstPageOf(block) + i);
                result = Step::done;
            });
            if (outcome[0].error == EAGAIN) return Step::retry;
            if (outcome[0].error == EBUSY && result == Step::nothing) result = Step::pinned;
        }
    }
    return result;
}

std::vector<BlockNumber> Pager::hottestFirst() const {
    std::vector<BlockNumber> order(blocks_.size());
    std::iota(order.begin(), order.end(), BlockNumber{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](BlockNumber a, BlockNumber b) { return blocks_[a].evicted > blocks_[b].evicted; });
    return order;
}

BlockMask Pager::stagedPages(BlockNumber block) {
    const PriorityMutex::Patient lock(shard(block));
    return pages_.pagesIn(block, PageState::staged);
}

/// Without the block's lock while the agent works: a leftover cannot become a staged page meanwhile, since
/// only this thread stages.
Step Pager::dropLeftovers(BlockNumber block) {
    BlockMask wanted;
    {
        const PriorityMutex::Patient lock(shard(block));
        wanted = blocks_[block].leftover;
    }
    if (!wanted.any()) return Step::nothing;
    const auto moved = moveToDrop(backgroundWorker_, block, wanted);
    if (!moved) return Step::gone;
    const PriorityMutex::Patient lock(shard(block));
    return forgetLeftovers(block, *moved);
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
    // Those of faults on staged pages, too, once they are as many.
    if (leftoverPages() >= pagesToDrop_ + dropPages) {
        blocksToDrop_.clear();
        for (BlockNumber block = 0; block < blocks_.size(); ++block) {
            const PriorityMutex::Patient lock(shard(block));
            if (blocks_[block].leftover.any()) blocksToDrop_.push_back(block);
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
            if (blocks_[block].leftover.any())
                batch.push_back(
                    {block, blocks_[block].leftover, !pages_.pagesIn(block, PageState::staged).any()});
        }
        // Most often all that is left of a block goes. Then one MADV_DONTNEED frees it where it is, while the
        // staging area raises no events: it is not registered meanwhile. Nobody needs it to be but stage(),
        // which is this thread's.
        const bool quiet =
            std::any_of(batch.begin(), batch.end(), [](const Drop& drop) { return drop.all; }) &&
            guest_.unregister(area_.staging()).has_value();
        for (const auto& drop : batch) {
            if (quiet && drop.all)
                backgroundWorker_.lane->advise({staged(drop.block), blockBytes}, MADV_DONTNEED);
            else
                queueDrop(backgroundWorker_, drop.block, drop.wanted);
        }
        const auto outcomes = backgroundWorker_.lane->run();
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
            forgetLeftovers(drop.block, !whole                ? outcome->moved
                                        : outcome->error == 0 ? drop.wanted
                                                              : BlockMask());
            outcome += whole ? 1 : 2;
        }
    }
    return Step::done;
}

// -----------------------------------------------------------------------------------------------------------------
// evicting

Step Pager::evict(BlockNumber block, Algorithm algorithm) {
    bool whole = false;
    {
        const PriorityMutex::Patient lock(shard(block));
        if (!pages_.pagesIn(block, PageState::staged).any()) return Step::touched;
        whole = blocks_[block].stagedWhole;
    }
    blocks_[block].evicted = ++evictions_;
    return whole ? evictWhole(block, algorithm) : evictPages(block, algorithm);
}

/// Compresses the given pages of a block that are still staged; one candidate for each of them: `absent` for
/// those that are not staged any more, `staged(incompressible)` for those that do not shrink. A page that has
/// not changed since it came from the store gets the slot that it left there. Nothing is published: only this
/// thread stages, so a page that is still staged when its candidate is has been staged, and unchanged, all
/// the time; and so has its copy, which only cameBack() and discard() give up, both ending that state.
std::vector<Pager::Candidate> Pager::compressChunk(BlockNumber block, std::span<const std::size_t> numbers,
                                                   Algorithm algorithm, Step& step) {
    auto& worker = backgroundWorker_;
    const auto base = firstPageOf(block);
    std::vector<Candidate> candidates(numbers.size());
    std::vector<std::optional<ContentHash>> copies(numbers.size());
    {
        const PriorityMutex::Patient lock(shard(block));
        for (std::size_t first = 0; first < numbers.size();) {
            std::size_t end = first;
            while (end < numbers.size() && numbers[end] == numbers[first] + (end - first) &&
                   pages_.get(base + numbers[end]).state() == PageState::staged)
                ++end;
            if (end == first) {
                ++first;
                continue;
            }
            const auto bytes = std::span(worker.buffer).subspan(first * pageBytes, (end - first) * pageBytes);
            if (const auto read = memory_.read(area_.page(base + numbers[first]), bytes); !read) {
                step = read.error().code == ErrorCode::processGone ? Step::gone : Step::touched;
                return candidates;
            }
            for (; first < end; ++first) {
                const auto entry = pages_.get(base + numbers[first]);
                candidates[first].entry = entry;
                if (entry.slot().bytes != 0) copies[first] = store_.contentOf(entry.slot());
            }
        }
    }
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        auto& [entry, fresh] = candidates[i];
        if (entry.state() != PageState::staged) continue;
        const PageBytes bytes(page(worker, i));
        if (const auto word = PageCodec::sameFilled(bytes)) {
            entry = PageEntry::filled(*word);
            continue;
        }
        const auto content = ContentHash::of(base + numbers[i], bytes);
        if (copies[i] == content) {
            entry = PageEntry::cold(entry.slot());
            continue;
        }
        const auto compressed = worker.codec.compress(bytes, algorithm);
        if (compressed.empty()) {
            entry = PageEntry::staged(entry.heat().level, {}, true);
            continue;
        }
        const auto slot = store_.put(base + numbers[i], content, compressed, algorithm);
        if (!slot) {
            for (; i < numbers.size(); ++i)
                candidates[i].entry = PageEntry::absent();
            step = Step::full;
            break;
        }
        entry = PageEntry::cold(*slot);
        fresh = true;
    }
    return candidates;
}

/// Makes a candidate the entry of its page, which is still staged. REQUIRES: the block's lock.
void Pager::publish(PageNumber number, const Candidate& candidate, Algorithm algorithm) {
    const auto before = pages_.get(number);
    if (!candidate.fresh && candidate.entry.state() == PageState::cold)
        copyBytes_.fetch_sub(before.slot().bytes, std::memory_order_relaxed);
    else
        release(before);
    pages_.set(number, candidate.entry);
    auto& loose = blocks_[blockOf(number)].loose;
    if (!candidate.fresh || algorithm != Algorithm::lz4 || loose) return;
    loose = true;
    looseBlocks_.fetch_add(1, std::memory_order_relaxed);
}

/// A slot that was written for a page which was touched meanwhile: not in vain, if the page does not change.
/// REQUIRES: the block's lock.
void Pager::keepAsCopy(PageNumber number, Slot slot) {
    const auto entry = pages_.get(number);
    const bool inMemory = entry.state() == PageState::resident || entry.state() == PageState::staged;
    if (!inMemory || entry.slot().bytes != 0 || !copyWanted()) return store_.release(slot);
    copyBytes_.fetch_add(slot.bytes, std::memory_order_relaxed);
    pages_.set(number, entry.state() == PageState::resident ? PageEntry::resident(entry.heat(), slot)
                                                            : PageEntry::staged(entry.heat().level, slot));
}

Step Pager::evictPages(BlockNumber block, Algorithm algorithm) {
    auto result = Step::touched;
    std::vector<std::size_t> wanted;
    {
        const PriorityMutex::Patient lock(shard(block));
        pages_.pagesIn(block, PageState::staged).forEach([&](std::size_t i) {
            if (!pages_.get(firstPageOf(block) + i).incompressible()) wanted.push_back(i);
        });
    }
    if (wanted.empty()) {
        const auto step = unstageIncompressible(block);  // what could not be moved back the last time
        return step == Step::gone ? step : Step::poor;
    }
    auto step = Step::done;
    bool poor = false;
    for (std::size_t from = 0; from < wanted.size() && step == Step::done; from += chunkPages) {
        const auto chunk = std::span(wanted).subspan(from, std::min(chunkPages, wanted.size() - from));
        const auto candidates = compressChunk(block, chunk, algorithm, step);
        const PriorityMutex::Patient lock(shard(block));
        BlockMask drop;
        for (std::size_t i = 0; i < chunk.size(); ++i) {
            const auto& [entry, fresh] = candidates[i];
            const auto number = firstPageOf(block) + chunk[i];
            if (pages_.get(number).state() != PageState::staged || entry.state() == PageState::absent) {
                if (fresh) store_.release(entry.slot());
                continue;
            }
            // The slot is written; publish it, then drop the page: a crash between the two leaves both, never
            // neither.
            publish(number, candidates[i], algorithm);
            if (entry.state() == PageState::staged) {
                poor = true;
                if (result == Step::touched) result = Step::poor;
                continue;
            }
            drop.set(chunk[i]);
            counters_.evictedPages.fetch_add(1, std::memory_order_relaxed);
            result = Step::done;
        }
        addLeftovers(block, drop);
    }
    if (poor && unstageIncompressible(block) == Step::gone) return Step::gone;
    if (dropLater(block) == Step::gone) return Step::gone;
    return step == Step::done ? result : step;
}

/// A huge page goes as a whole: its slots are written chunk by chunk while it stays one staged huge page that
/// a single touch takes back; only when all are written are they published, in one step, and the huge page
/// freed at once.
Step Pager::evictWhole(BlockNumber block, Algorithm algorithm) {
    std::vector<Candidate> candidates;
    candidates.reserve(pagesPerBlock);
    const auto giveUp = [&](Step step) {
        const PriorityMutex::Patient lock(shard(block));
        for (std::size_t i = 0; i < candidates.size(); ++i)
            if (candidates[i].fresh) keepAsCopy(firstPageOf(block) + i, candidates[i].entry.slot());
        return step;
    };
    std::size_t poor = 0;
    std::array<std::size_t, chunkPages> chunk{};
    for (std::size_t from = 0; from < pagesPerBlock; from += chunkPages) {
        std::iota(chunk.begin(), chunk.end(), from);
        auto step = Step::done;
        const auto part = compressChunk(block, chunk, algorithm, step);
        candidates.insert(candidates.end(), part.begin(), part.end());
        if (step != Step::done) return giveUp(step);
        for (const auto& [entry, fresh] : part) {
            if (entry.state() == PageState::absent) return giveUp(Step::touched);
            if (entry.incompressible()) ++poor;
        }
    }
    bool touched = false;
    {
        const PriorityMutex::Patient lock(shard(block));
        auto& state = blocks_[block];
        touched = !state.stagedWhole;
        if (!touched) {
            state.stagedWhole = poor == pagesPerBlock;  // nothing gained: it stays one page
            state.heat = {};
            BlockMask drop;
            for (std::size_t i = 0; i < pagesPerBlock; ++i) {
                publish(firstPageOf(block) + i, candidates[i], algorithm);
                if (candidates[i].entry.state() != PageState::staged) drop.set(i);
            }
            counters_.evictedPages.fetch_add(pagesPerBlock - poor, std::memory_order_relaxed);
            addLeftovers(block, drop);
        }
    }
    if (touched) return giveUp(Step::touched);
    if (poor > 0 && unstageIncompressible(block) == Step::gone) return Step::gone;
    if (dropLater(block) == Step::gone) return Step::gone;
    return poor == pagesPerBlock ? Step::poor : Step::done;
}

Step Pager::compactStore() {
    auto result = Step::nothing;
    // What was written for pages and is not published yet is not in the store now: that, too, is this
    // thread's work.
    const auto move = [&](PageNumber number, Slot place) {
        if (number >= firstPageOf(pages_.blocks()))
            return;  // a damaged header: found when the page is wanted
        const PriorityMutex::Patient lock(shard(blockOf(number)));
        const auto entry = pages_.get(number);
        if (entry.slot().granule != place.granule || entry.slot().bytes == 0) return;
        const auto copy = store_.copy(entry.slot());
        if (!copy) return;
        pages_.set(number, entry.withSlot(*copy));
        store_.release(entry.slot());
        result = Step::done;
    };
    while (store_.sparse() && store_.compact(move)) {
    }
    return result;
}

Step Pager::dropCopies(BlockNumber block) {
    const PriorityMutex::Patient lock(shard(block));
    auto result = Step::nothing;
    for (auto number = firstPageOf(block); number < firstPageOf(block + 1); ++number) {
        const auto entry = pages_.get(number);
        if (entry.stored() || entry.slot().bytes == 0) continue;
        release(entry);
        pages_.set(number, entry.state() == PageState::resident
                               ? PageEntry::resident(entry.heat())
                               : PageEntry::staged(entry.heat().level, {}, entry.incompressible()));
        result = Step::done;
    }
    return result;
}

Step Pager::tighten(BlockNumber block) {
    auto& worker = backgroundWorker_;
    const auto first = firstPageOf(block);
    {
        const PriorityMutex::Patient lock(shard(block));
        if (!blocks_[block].loose) return Step::nothing;
        blocks_[block].loose = false;
        looseBlocks_.fetch_sub(1, std::memory_order_relaxed);
    }
    for (std::size_t from = 0; from < pagesPerBlock; from += chunkPages) {
        std::array<PageEntry, chunkPages> before;
        {
            const PriorityMutex::Patient lock(shard(block));
            for (std::size_t i = 0; i < chunkPages; ++i) {
                const auto entry = pages_.get(first + from + i);
                if (entry.state() == PageState::cold && store_.algorithmOf(entry.slot()) == Algorithm::lz4 &&
                    load(first + from + i, entry, worker.codec, page(worker, i)))
                    before[i] = entry;
            }
        }
        for (std::size_t i = 0; i < chunkPages; ++i) {
            if (before[i].state() != PageState::cold) continue;
            const auto number = first + from + i;
            const PageBytes bytes(page(worker, i));
            const auto compressed = worker.codec.compress(bytes, Algorithm::zstd);
            if (compressed.empty()) continue;
            const auto slot = store_.put(number, ContentHash::of(number, bytes), compressed, Algorithm::zstd);
            if (!slot) return Step::full;
            // Only this thread makes pages cold: an entry that is the same has been so all the time.
            const PriorityMutex::Patient lock(shard(block));
            const bool better = slot->bytes < before[i].slot().bytes;
            if (better && pages_.get(number) == before[i]) {
                pages_.set(number, PageEntry::cold(*slot));
                store_.release(before[i].slot());
            } else {
                store_.release(*slot);
            }
        }
    }
    return Step::done;
}

// ----------------------------------------------------------------------------------------------------------------
// restoring

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
    return step == Step::retry || step == Step::gone ? step : collapse(block);
}

/// Makes the pages of a block that was one huge page, and is all there again, one huge page again. The kernel
/// does it, or not (pinned pages, no memory); what the pages hold is the same either way, so no lock is
/// needed.
Step Pager::collapse(BlockNumber block) {
    std::optional<VmAddress> whole;
    {
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        if (!std::exchange(blocks_[block].wasHuge, false)) return Step::done;
        if (pages_.pagesIn(block, PageState::resident) != allPages()) return Step::done;
        whole = addresses_.wholeBlock(block);
    }
    if (!whole || memory_.isHuge(*whole)) return Step::done;
    backgroundWorker_.lane->advise({*whole, blockBytes}, abi::madviseCollapse);
    return backgroundWorker_.lane->run().empty() ? Step::gone : Step::done;
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
    const auto result = moveBack(block, poor);
    constexpr auto longest = Heat{Heat::maxLevel, (1U << Heat::maxLevel) - 1};
    if (poor == allPages()) blocks_[block].heat = longest;
    poor.forEach([&](std::size_t i) {
        if (pages_.get(firstPageOf(block) + i).state() == PageState::resident)
            pages_.set(firstPageOf(block) + i, PageEntry::resident(longest));
    });
    return result;
}

/// REQUIRES: layout and block locks held.
Step Pager::moveBack(BlockNumber block, const BlockMask& want) {
    if (!want.any()) return Step::nothing;
    auto result = Step::done;
    for (const auto& piece : pieces(block)) {
        auto mask = want;
        for (std::size_t w = 0; w < mask.words().size(); ++w)
            mask.words()[w] &= piece.mask.words()[w];
        if (!mask.any()) continue;
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
    while (entries.size() < pagesPerBlock) {
        const PriorityMutex::Patient lock(shard(block));
        if (fillFresh(worker, block, entries)) continue;
        emptyFresh(worker);
        return Step::nothing;
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
    return moveFreshIn(worker, block, address);
}

Step Pager::restoreStored(BlockNumber block) {
    auto result = Step::nothing;
    const auto first = firstPageOf(block);
    for (std::size_t from = 0; from < pagesPerBlock; from += chunkPages) {
        const PriorityMutex::Patient layout(layout_);
        const PriorityMutex::Patient lock(shard(block));
        for (const auto& extent : addresses_.extents()) {
            const auto begin = std::max(first + from, extent.first);
            const auto end = std::min(first + from + chunkPages, extent.first + extent.pages);
            if (begin >= end) continue;
            const auto address = extent.start + (begin - extent.first) * pageBytes;
            const auto brought = bringStored(backgroundWorker_, begin, address, end - begin);
            if (brought.last == Populate::gone) return Step::gone;
            if (brought.last != Populate::done && brought.last != Populate::present) return Step::retry;
            if (brought.pages > 0) result = Step::done;
        }
    }
    return result;
}

}  // namespace thermocline::memory
