// SPDX-License-Identifier: Apache-2.0

// How pages go aside and come back where guest RAM is shared (Mechanism::unmap). Its pages belong to a file:
// unmapping them (MADV_DONTNEED by the agent) loses nothing, and what is staged is what is in the file and
// mapped nowhere. Back: UFFDIO_CONTINUE. Cold: read from the file, then punched out of it.
//   - Unmapping raises a REMOVE event of our own, known as in pager_copying.cpp, and faults are put off
//     meanwhile as there.
//   - A staged page cannot change: nobody has it mapped (a fault would come to us, and end that state under
//     the block's lock), no other process has the file (other_mappers.h), and no device writes to it: one
//     that began before the page was unmapped has its file open with O_DIRECT, or pages pinned, and evict()
//     looks for both before it reads; a later one would have to fault. So it is read and compressed without
//     the lock, and published and punched under it, if it is staged still.
//   - The guest gives memory up by punching holes itself, of which the kernel tells nobody, and unmapping
//     them (QEMU's ram_block_discard_range) or by MADV_REMOVE, which both raise REMOVE. What we put back
//     between the two would be stale: so a REMOVE that is not ours punches again. MADV_DONTNEED alone keeps
//     the bytes of shared memory, but QEMU has no use for it, and it cannot be told from the others.
//   - That a page is gone from the file without an event (yet) is seen when it is to be mapped: it is zeros.

#include <spdlog/spdlog.h>

#include "memory/pager.h"

namespace thermocline::memory {

/// dropCopied() has to follow, without a lock. REQUIRES: layout and block locks held; all of `want` is
/// resident.
Step Pager::unmapAside(BlockNumber block, VmAddress base, const BlockMask& want) {
    want.forEach([&](std::size_t i) { movedAside(firstPageOf(block) + i); });
    blocks_[block].dropping |= want;
    ownDrops_.push_back({block, base, want, {}, {}});
    return Step::done;
}

/// Pages that could not be unmapped, or are mapped somewhere else by now (mremap), are not staged: they can
/// be written to. REQUIRES: layout and block locks held.
void Pager::keepMapped(const OwnDrop& drop, const BlockMask& unmapped) {
    drop.pages.forEach([&](std::size_t i) {
        const auto number = firstPageOf(drop.block) + i;
        const auto entry = pages_.get(number);
        if (entry.state() != PageState::staged) return;
        if (unmapped.test(i) && addresses_.addressOf(number) == drop.base + i * pageBytes) return;
        pages_.set(number, PageEntry::resident(entry.heat(), entry.slot()));
    });
}

/// The opposite of unmapAside(). REQUIRES: layout and block locks held; all of `want` is staged.
Pager::Moved Pager::mapBack(BlockNumber block, VmAddress base, const BlockMask& want) {
    Moved result{{}, Step::done};
    want.forEachRun([&](std::size_t first, std::size_t count) {
        const auto end = first + count;
        while (first < end && result.step == Step::done) {
            std::size_t mapped = 0;
            const auto outcome =
                guest_.mapFromFile({base + first * pageBytes, (end - first) * pageBytes}, mapped);
            auto back = mapped / pageBytes;
            if (outcome == Populate::present && back == 0) back = 1;
            for (const auto until = first + back; first < until; ++first) {
                result.pages.set(first);
                cameBack(firstPageOf(block) + first, false);
            }
            if (back > 0 || outcome == Populate::done) continue;
            if (outcome == Populate::hole)
                vanished(firstPageOf(block) + first++);
            else
                result.step = outcome == Populate::gone ? Step::gone : Step::retry;
        }
    });
    return result;
}

/// A page is in its file no longer: the guest gave it up, and the event is to come. REQUIRES: the block's
/// lock.
void Pager::vanished(PageNumber number) {
    release(pages_.get(number));
    pages_.set(number, PageEntry::absent());
}

/// Pages whose content has just been published go from the file; those that cannot stay staged. REQUIRES: the
/// block's lock, held since they were found staged.
void Pager::freeEvicted(BlockNumber block, const BlockMask& cold) {
    cold.forEachRun([&](std::size_t first, std::size_t count) {
        const auto number = firstPageOf(block) + first;
        const auto freed = files_->punch(number, count);
        if (freed) return;
        spdlog::error("{}", freed.error().message);
        for (auto page = number; page < number + count; ++page) {
            release(pages_.get(page));
            pages_.set(page, PageEntry::staged());
        }
    });
}

/// Pages that the guest gave up go from the file. REQUIRES: their faults are not served meanwhile.
void Pager::punch(PageNumber first, std::uint64_t count) {
    const auto freed = files_->punch(first, count);
    if (!freed) spdlog::critical("given up by the guest, but still there: {}", freed.error().message);
}

/// The content of staged pages, in the staging area or in their file.
Result<void> Pager::readStaged(PageNumber first, std::span<std::byte> into) const {
    return unmaps() ? files_->read(first, into) : memory_.read(area_.page(first), into);
}

/// A page that is mapped nowhere, as far as we know, but is in the file. REQUIRES: the block's lock.
Served Pager::serveFromFile(PageNumber number, VmAddress address, bool write) {
    const bool staged = pages_.get(number).state() == PageState::staged;
    std::size_t mapped = 0;
    switch (guest_.mapFromFile({address, pageBytes}, mapped)) {
        case Populate::done:
            cameBack(number, true);
            if (staged)
                countStagedFault(1);
            else
                counters_.spuriousFaults.fetch_add(1, std::memory_order_relaxed);
            return Served::done;
        case Populate::present:  // another thread's fault was served first
            cameBack(number, true);
            counters_.spuriousFaults.fetch_add(1, std::memory_order_relaxed);
            letGo(address);
            return Served::done;
        case Populate::hole:
            vanished(number);
            return serveAbsent(number, address, write, false, Waking::now);
        case Populate::unmapped:
            return registered() ? Served::retry : Served::done;
        case Populate::gone:
            return Served::gone;
        case Populate::retry:
        case Populate::failed:
            break;
    }
    return Served::retry;
}

/// A page of zeros, unless the file has one: then that one counts, since an absent page is the guest's own.
/// REQUIRES: the block's lock; the page is absent.
Served Pager::serveHole(PageNumber number, VmAddress address) {
    auto outcome = guest_.zeroPage(address);
    std::size_t mapped = 0;
    if (outcome == Populate::present) outcome = guest_.mapFromFile({address, pageBytes}, mapped);
    switch (outcome) {
        case Populate::present:
            letGo(address);
            [[fallthrough]];
        case Populate::done:
            pages_.set(number, PageEntry::resident());
            counters_.zeroFaults.fetch_add(1, std::memory_order_relaxed);
            return Served::done;
        case Populate::gone:
            return Served::gone;
        case Populate::unmapped:
            return registered() ? Served::retry : Served::done;
        default:
            return Served::retry;
    }
}

/// Puts the content of pages that are not in guest RAM there. REQUIRES: the block's lock; the layout lock or
/// the fault thread.
Populate Pager::putIn(PageNumber first, VmAddress to, std::span<const std::byte> bytes, std::size_t& copied,
                      Waking waking) {
    const auto outcome = guest_.copy(to, bytes, copied, waking);
    if (!unmaps() || outcome != Populate::present || copied != 0 || memory_.populated(to)) return outcome;
    // The file has a page where we punched a hole: a huge page that the kernel could not split keeps zeros
    // there. What we hold is the content.
    const auto one = bytes.first(pageBytes);
    if (!files_->write(first, one)) return Populate::failed;
    const auto mapped = guest_.mapFromFile({to, pageBytes}, copied);
    return mapped == Populate::hole ? Populate::retry : mapped;
}

}  // namespace thermocline::memory
