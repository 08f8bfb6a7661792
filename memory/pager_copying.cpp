// SPDX-License-Identifier: Apache-2.0

// How pages go aside and come back where they are copied (Mechanism::copy). Aside: write-protect, copy to the
// staging area, then MADV_DONTNEED by the agent. That raises a REMOVE event, for which the agent waits until
// the fault thread has read it: so no lock may be held meanwhile, and the event must be known for ours.
//   - From the copy to the end of the drop the pages are "dropping": every fault on them is put off. So
//     nobody writes what the drop would destroy: who writes to the old page waits (write-protected), and
//     whoever finds it missing waits, too.
//   - Each page that we drop raises just one event of ours. A second one for the same page is the guest's
//     own: which came first does not matter, since the page is zeros after both, and nobody gets it before
//     the drop has ended and both are known.
//   - A DMA that is under way when the page is copied would be lost: so nothing is copied while there can be
//     one. New ones pin the page, which a write-protected or missing page puts off like any other write; so
//     it is enough to look after write-protecting.
//   - munmap does not wait for us, and our MADV_DONTNEED could hit what takes its place: so not for guest RAM
//     that can be unplugged (copy_hazards.h, which also has what cannot be seen here).

#include <sys/mman.h>

#include <algorithm>

#include "memory/pager.h"

namespace thermocline::memory {

/// Copies the wanted pages of one piece aside; dropCopied() has to follow, without a lock. REQUIRES: layout
/// and block locks held; all of `want` is resident, and no more than chunkPages.
Step Pager::copyAside(BlockNumber block, VmAddress base, const BlockMask& want) {
    auto& worker = backgroundWorker_;
    const auto range = [base](std::size_t first, std::size_t count) {
        return VmRange{base + first * pageBytes, count * pageBytes};
    };
    BlockMask isProtected;
    auto result = Step::done;
    want.forEachRun([&](std::size_t first, std::size_t count) {
        switch (guest_.protect(range(first, count))) {
            case Populate::done:
                for (std::size_t i = 0; i < count; ++i)
                    isProtected.set(first + i);
                break;
            case Populate::retry:
                result = Step::retry;
                break;
            case Populate::gone:
                result = Step::gone;
                break;
            default:
                break;  // not there (any more); an event will tell why
        }
    });
    if (result == Step::done && isProtected.any()) result = refuseWherePinned();
    BlockMask copied;
    isProtected.forEachRun([&](std::size_t first, std::size_t count) {
        const auto bytes = std::span(worker.buffer).first(count * pageBytes);
        if (result == Step::done && memory_.read(range(first, count).start, bytes)) {
            BlockMask run;
            for (std::size_t i = 0; i < count; ++i)
                run.set(first + i);
            if (memory_.write(staged(block) + first * pageBytes, bytes)) {
                copied |= run;
                return;
            }
            addLeftovers(block, run);  // no memory for all of it
        }
        guest_.unprotect(range(first, count));
    });
    if (!copied.any()) return result == Step::done ? Step::nothing : result;
    copied.forEach([&](std::size_t i) { movedAside(firstPageOf(block) + i); });
    blocks_[block].dropping |= copied;
    ownDrops_.push_back({block, base, copied, {}, {}});
    return Step::done;
}

/// `pinned` where a DMA into guest RAM may be under way: the process has a file open with O_DIRECT, or pages
/// pinned for long. REQUIRES: what is to be copied is write-protected, so that a DMA that begins after this
/// look has to wait.
Step Pager::refuseWherePinned() {
    const auto totals = memory_.totals();
    if (!totals) return Step::gone;
    if (totals->pinnedBytes != 0) return Step::pinned;
    backgroundWorker_.lane->findDirect(totals->descriptors);
    const auto& outcome = backgroundWorker_.lane->run();
    return outcome.empty() ? Step::gone : stepOf(outcome[0].error);
}

/// Frees what copyAside() copied, and settles which of it the guest has given up meanwhile. REQUIRES: no lock
/// held.
Step Pager::dropCopied() {
    if (ownDrops_.empty()) return Step::done;
    for (const auto& drop : ownDrops_)
        backgroundWorker_.lane->advisePages(drop.base, MADV_DONTNEED, drop.pages);
    const auto& outcomes = backgroundWorker_.lane->run();
    const bool gone = outcomes.empty();
    const PriorityMutex::Patient layout(layout_);
    for (std::size_t i = 0; unmaps() && i < ownDrops_.size(); ++i) {
        const PriorityMutex::Patient lock(shard(ownDrops_[i].block));
        keepMapped(ownDrops_[i], gone ? BlockMask() : outcomes[i].pages);
    }
    for (const auto& drop : ownDrops_)
        drop.seenAgain.forEachRun([&](std::size_t first, std::size_t count) {
            discard(firstPageOf(drop.block) + first, count, true);
        });
    for (const auto& drop : ownDrops_) {
        const PriorityMutex::Patient lock(shard(drop.block));
        blocks_[drop.block].dropping -= drop.pages;
    }
    ownDrops_.clear();
    return gone ? Step::gone : Step::done;
}

/// Pages of guest RAM were, or are about to be, removed: by the guest, or by dropCopied(). REQUIRES:
/// layout().
void Pager::removed(PageNumber first, std::uint64_t count) {
    const auto end = first + count;
    while (first < end) {
        const auto drop = std::find_if(ownDrops_.begin(), ownDrops_.end(), [&](const OwnDrop& own) {
            return own.block == blockOf(first) && own.pages.test(first % pagesPerBlock);
        });
        if (drop == ownDrops_.end()) {
            // As far as no page of ours is among them.
            auto stop = first + 1;
            while (stop < end && std::none_of(ownDrops_.begin(), ownDrops_.end(), [&](const OwnDrop& own) {
                       return own.block == blockOf(stop) && own.pages.test(stop % pagesPerBlock);
                   }))
                ++stop;
            discard(first, stop - first, true);
            first = stop;
            continue;
        }
        const auto page = first % pagesPerBlock;
        (drop->seen.test(page) ? drop->seenAgain : drop->seen).set(page);
        ++first;
    }
}

/// The opposite of copyAside(). REQUIRES: layout and block locks held; all of `want` is staged.
Pager::Moved Pager::copyBack(Worker& worker, BlockNumber block, VmAddress base, const BlockMask& want) {
    Moved result{{}, Step::done};
    want.forEachRun([&](std::size_t first, std::size_t count) {
        const auto end = first + count;
        while (first < end && result.step == Step::done) {
            const auto bytes = std::span(worker.buffer).first(std::min(chunkPages, end - first) * pageBytes);
            if (const auto read = memory_.read(staged(block) + first * pageBytes, bytes); !read) {
                result.step = read.error().code == ErrorCode::processGone ? Step::gone : Step::nothing;
                return;
            }
            std::size_t copied = 0;
            const auto outcome = guest_.copy(base + first * pageBytes, bytes, copied);
            auto back = copied / pageBytes;
            if (outcome == Populate::present && back == 0) {
                guest_.unprotect({base + first * pageBytes, pageBytes});
                back = 1;
            }
            for (const auto until = first + back; first < until; ++first) {
                result.pages.set(first);
                cameBack(firstPageOf(block) + first, false);
            }
            if (back > 0 || outcome == Populate::done) continue;
            result.step = outcome == Populate::gone ? Step::gone : Step::retry;
        }
    });
    addLeftovers(block, result.pages);
    return result;
}

}  // namespace thermocline::memory
