// SPDX-License-Identifier: Apache-2.0

// The pager and the store: staged pages become cold, and the store is kept small.

#include <algorithm>
#include <cerrno>
#include <numeric>

#include "memory/pager.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {

Step Pager::evict(BlockNumber block, Algorithm algorithm, Poor poor) {
    bool whole = false;
    {
        const PriorityMutex::Patient lock(shard(block));
        if (!pages_.pagesIn(block, PageState::staged).any()) return Step::touched;
        whole = blocks_[block].stagedWhole;
        blocks_[block].wanted = deciseconds();
    }
    if (poor == Poor::freeze && (frozen_ == nullptr || !frozen_->open())) poor = Poor::moveBack;
    blocks_[block].evicted = ++evictions_;
    return whole ? evictWhole(block, algorithm, poor) : evictPages(block, algorithm, poor);
}

Step Pager::evictPages(BlockNumber block, Algorithm algorithm, Poor whatIsPoor) {
    auto result = Step::touched;
    std::vector<std::size_t> wanted;
    {
        const PriorityMutex::Patient lock(shard(block));
        pages_.pagesIn(block, PageState::staged).forEach([&](std::size_t i) {
            if (whatIsPoor != Poor::moveBack || !pages_.get(firstPageOf(block) + i).incompressible())
                wanted.push_back(i);
        });
    }
    if (wanted.empty()) {
        const auto step = unstageIncompressible(block);  // what could not be moved back the last time
        return step == Step::gone ? step : Step::poor;
    }
    // What a device writes to a page that is unmapped would be lost with the page (pager_unmapping.cpp).
    if (unmaps())
        if (const auto refused = refuseWherePinned(); refused != Step::done) {
            return unstage(block) == Step::gone ? Step::gone : refused;
        }
    auto step = Step::done;
    bool poor = false;
    std::size_t mayStayPoor = whatIsPoor == Poor::store ? fewPoor : 0;
    for (std::size_t from = 0; from < wanted.size() && step == Step::done; from += chunkPages) {
        const auto chunk = std::span(wanted).subspan(from, std::min(chunkPages, wanted.size() - from));
        const auto candidates = compressChunk(block, chunk, algorithm, whatIsPoor, mayStayPoor, step);
        const PriorityMutex::Patient lock(shard(block));
        BlockMask drop;
        for (std::size_t i = 0; i < chunk.size(); ++i) {
            const auto& [entry, fresh] = candidates[i];
            const auto number = firstPageOf(block) + chunk[i];
            if (pages_.get(number).state() != PageState::staged || entry.state() == PageState::absent) {
                if (fresh) release(entry);
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
        if (unmaps())
            freeEvicted(block, drop);
        else
            addLeftovers(block, drop);
        sequencePoint("entries-published");
    }
    if (poor && unstageIncompressible(block) == Step::gone) return Step::gone;
    if (dropLater(block) == Step::gone) return Step::gone;
    return step == Step::done ? result : step;
}

/// A huge page goes as a whole: its slots are written chunk by chunk while it stays one staged huge page that
/// a single touch takes back; only when all are written are they published, in one step, and the huge page
/// freed at once.
Step Pager::evictWhole(BlockNumber block, Algorithm algorithm, Poor whatIsPoor) {
    std::vector<Candidate> candidates;
    candidates.reserve(pagesPerBlock);
    const auto giveUp = [&](Step step) {
        const PriorityMutex::Patient lock(shard(block));
        for (std::size_t i = 0; i < candidates.size(); ++i)
            if (candidates[i].fresh) keepAsCopy(firstPageOf(block) + i, candidates[i].entry);
        return step;
    };
    std::size_t poor = 0;
    std::size_t mayStayPoor = whatIsPoor == Poor::store ? fewPoor : 0;
    std::array<std::size_t, chunkPages> chunk{};
    for (std::size_t from = 0; from < pagesPerBlock; from += chunkPages) {
        std::iota(chunk.begin(), chunk.end(), from);
        auto step = Step::done;
        const auto part = compressChunk(block, chunk, algorithm, whatIsPoor, mayStayPoor, step);
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
            sequencePoint("block-published");
        }
    }
    if (touched) return giveUp(Step::touched);
    if (poor > 0 && unstageIncompressible(block) == Step::gone) return Step::gone;
    if (!offerSpare(block) && dropLater(block) == Step::gone) return Step::gone;
    return poor == pagesPerBlock ? Step::poor : Step::done;
}

/// Compresses the given pages of a block that are still staged; one candidate for each of them: `absent` for
/// those that are not staged any more, `staged` and incompressible for those that do not shrink, but for the
/// first `mayStayPoor`, which is counted down: those are stored as they are. A page that
/// has not changed since it came from the store gets the slot that it left there. Nothing is published: only
/// this thread stages, so a page that is still staged when its candidate is has been staged, and unchanged,
/// all the time; and so has its copy, which only cameBack() and discard() give up, both ending that state.
std::vector<Pager::Candidate> Pager::compressChunk(BlockNumber block, std::span<const std::size_t> numbers,
                                                   Algorithm algorithm, Poor poor, std::size_t& mayStayPoor,
                                                   Step& step) {
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
            if (const auto read = readStaged(base + numbers[first], bytes); !read) {
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
        auto compressed = worker.codec.compress(bytes, algorithm);
        if (compressed.empty() && mayStayPoor > 0) {
            --mayStayPoor;
            compressed = bytes;
        }
        if (compressed.empty()) {
            entry = PageEntry::staged(entry.heat().level).asIncompressible();
            if (poor != Poor::freeze || !frozen_->open()) continue;
            const auto slot = frozen_->put(base + numbers[i], bytes);
            fresh = slot.has_value();
            if (fresh) entry = PageEntry::frozen(*slot);
            continue;
        }
        const auto slot = store_.put(base + numbers[i], content, compressed, algorithm);
        if (!slot) {
            for (; i < numbers.size(); ++i)
                candidates[i].entry = PageEntry::absent();
            step = Step::full;
            break;
        }
        sequencePoint("slot-written");
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
    sequencePoint("entry-replaced");
    pages_.set(number, candidate.entry);
    auto& loose = blocks_[blockOf(number)].loose;
    if (!candidate.fresh || candidate.entry.state() != PageState::cold || algorithm != Algorithm::lz4 ||
        loose)
        return;
    loose = true;
    looseBlocks_.fetch_add(1, std::memory_order_relaxed);
}

/// A slot that was written for a page which was touched meanwhile: not in vain, if the page does not change.
/// REQUIRES: the block's lock.
void Pager::keepAsCopy(PageNumber number, PageEntry candidate) {
    const auto entry = pages_.get(number);
    const auto slot = candidate.slot();
    const bool inMemory = entry.state() == PageState::resident || entry.state() == PageState::staged;
    if (!inMemory || slot.bytes == 0 || ColdStore::asItIs(slot) || entry.slot().bytes != 0 || !copyWanted())
        return release(candidate);
    copyBytes_.fetch_add(slot.bytes, std::memory_order_relaxed);
    pages_.set(number, entry.withSlot(slot));
}

Step Pager::dropCopies(BlockNumber block) {
    const PriorityMutex::Patient lock(shard(block));
    auto result = Step::nothing;
    for (auto number = firstPageOf(block); number < firstPageOf(block + 1); ++number) {
        const auto entry = pages_.get(number);
        if (entry.stored() || entry.slot().bytes == 0) continue;
        release(entry);
        pages_.set(number, entry.withSlot({}));
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
            // An entry that is the same has been so all the time (pager_frozen.cpp).
            const PriorityMutex::Patient lock(shard(block));
            const bool better = slot->bytes < before[i].slot().bytes;
            if (better && pages_.get(number) == before[i]) {
                pages_.set(number, PageEntry::cold(*slot));
                sequencePoint("tightened");
                store_.release(before[i].slot());
            } else {
                store_.release(*slot);
            }
        }
    }
    return Step::done;
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
        const auto copy = store_.adopt(store_.bytesOf(entry.slot()));
        if (!copy) return;
        sequencePoint("slot-copied");
        pages_.set(number, entry.withSlot(*copy));
        sequencePoint("slot-moved");
        store_.release(entry.slot());
        result = Step::done;
    };
    while (store_.sparse() && store_.compact(move)) {
    }
    return result;
}

}  // namespace thermocline::memory
