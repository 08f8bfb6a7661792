// SPDX-License-Identifier: Apache-2.0

// The pager takes over what a manager left that died at an arbitrary instant (SIGKILL). All that counts was
// written down by then: the entries, the slots and the events (event_journal.h); and where a page is, the
// kernel knows. A page is
//   - where its entry is `absent`: absent, whatever is there. A REMOVE may have been read which the kernel
//   has
//     yet to carry out, so a page that is still present must not be moved (pager_fault.cpp, discard()); what
//     the staging area or the store has of it was given up.
//   - else, where guest RAM has it: resident. A page comes back by a copy or a move that the kernel does in
//     one step, and the guest may have written to it since: what is elsewhere is older.
//   - else, where its entry is resident or staged and the staging area has it: staged. It goes there and
//     comes back from there whole, between two states of the page tables.
//   - else what its entry says: an entry says "cold" only once its slot is written, and the staged page is
//     dropped only after that.
// Guest RAM does not change meanwhile: its faults wait, and who raised an event that is not read waits, too.
// A REMOVE or UNMAP that was read before has made its pages absent or unmapped. The agents have done what
// they were asked for, whole batches, whose steps are those above.
//
// Dying in here is harmless likewise: each entry becomes what is true, by a single store, and a slot is given
// up only when no entry points to it.

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>

#include "memory/pager.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {
namespace {

/// Somebody who raises events all the time must not keep the guest's faults waiting.
constexpr unsigned mostReads = 1000;
/// User space, without the lowest addresses, which the kernel refuses.
constexpr VmRange allAddresses{{1U << 20}, (std::uint64_t{1} << 47) - pageBytes - (1U << 20)};

}  // namespace

Result<Pager::Recovered> Pager::recover() {
    const PriorityMutex::Patient layout(layout_);
    Recovered found;
    THERMOCLINE_TRY(clearAreas());
    replayUnapplied();
    // Where nothing was away yet, or everything is back, the guest is let alone.
    if (!journal_.registered()) {
        for (const auto& extent : addresses_.extents())
            (void)guest_.unregister(extent.range());
        pages_.setAll(0, firstPageOf(pages_.blocks()), PageEntry::absent());
    }
    for (unsigned reads = 0; reads < mostReads && guest_.read(journal_.buffer()) > 0; ++reads)
        replayUnapplied();
    sequencePoint("recovery-replayed");
    const auto inStaging = populatedIn({{area_.staging().start, 0, firstPageOf(pages_.blocks())}});
    if (!inStaging) return tl::unexpected(inStaging.error());
    if (journal_.registered()) {
        const auto inGuest = populatedIn(addresses_.extents());
        if (!inGuest) return tl::unexpected(inGuest.error());
        for (BlockNumber block = 0; block < blocks_.size(); ++block) {
            settle(block, (*inGuest)[block], (*inStaging)[block], found);
            if (block == blocks_.size() / 2) sequencePoint("recovery-half-settled");
        }
        if (frozen_ == nullptr && pages_.count(PageState::frozen) > 0)
            return fail(ErrorCode::notSupported,
                        fmt::format("{} pages are in the file tier", pages_.count(PageState::frozen)));
    }
    claimSlots(found);
    sequencePoint("recovery-claimed");
    for (BlockNumber block = 0; block < blocks_.size(); ++block) {
        auto leftover = (*inStaging)[block];
        leftover -= pages_.pagesIn(block, PageState::staged);
        addLeftovers(block, leftover);
    }
    memoryBytes_ = addresses_.pages() * pageBytes;
    registered_ = journal_.registered();
    // Faults that were read and not served: their threads look again, and fault again.
    guest_.wake(allAddresses);
    found.staged = pages_.count(PageState::staged);
    found.stored = pages_.count(PageState::cold) + pages_.count(PageState::filled);
    found.frozen = pages_.count(PageState::frozen);
    return found;
}

/// What was on its way to be dropped, and pages that were being made aside. The latter must be zeros when
/// they are used next.
Result<void> Pager::clearAreas() {
    if (moves()) {
        // It is not registered while leftovers are dropped in place.
        THERMOCLINE_TRY(guest_.registerMissing(area_.staging()));
        THERMOCLINE_TRY(drop_.registerMissing(area_.drops()));
    }
    for (auto* worker : {&faultWorker_, &backgroundWorker_}) {
        worker->lane->advise(worker->drop, MADV_DONTNEED);
        worker->lane->advise(worker->fresh, MADV_DONTNEED);
        const auto& outcome = worker->lane->run();
        if (outcome.empty()) return fail(ErrorCode::processGone, "the VM's process has ended");
        for (const auto& [error, pages] : outcome)
            if (error != 0) return failErrno("emptying the areas beside the staging area", error);
    }
    return {};
}

void Pager::replayUnapplied() {
    const auto [first, end] = journal_.unapplied();
    for (auto i = first; i < end; ++i) {
        if (journal_.buffer()[i].event == UFFD_EVENT_PAGEFAULT) continue;
        replay(journal_.buffer()[i]);
        journal_.applied(i);
    }
    journal_.forget(EventJournal::mostMessages);
}

/// As applyEvent(), where slots are not claimed and nothing is known of the staging area yet.
void Pager::replay(const uffd_msg& message) {
    if (message.event == UFFD_EVENT_REMAP) {
        addresses_.remap({{message.arg.remap.from}, message.arg.remap.len}, {message.arg.remap.to});
        journal_.addresses(addresses_);
        return;
    }
    if (message.event != UFFD_EVENT_REMOVE && message.event != UFFD_EVENT_UNMAP) return;
    const VmRange range{{message.arg.remove.start}, message.arg.remove.end - message.arg.remove.start};
    for (const auto& part : addresses_.within(range))
        pages_.setAll(part.first, part.pages, PageEntry::absent());
    if (message.event != UFFD_EVENT_UNMAP) return;
    addresses_.unmap(range);
    journal_.addresses(addresses_);
}

/// Pages that are there, by block.
Result<std::vector<BlockMask>> Pager::populatedIn(const std::vector<AddressMap::Extent>& extents) const {
    std::vector<BlockMask> masks(blocks_.size());
    for (const auto& extent : extents)
        THERMOCLINE_TRY(memory_.forEachPopulated(extent.range(), [&](VmRange run) {
            auto number = extent.first + (run.start - extent.start) / pageBytes;
            for (const auto end = number + run.bytes / pageBytes; number < end; ++number)
                masks[blockOf(number)].set(number % pagesPerBlock);
        }));
    return masks;
}

void Pager::settle(BlockNumber block, const BlockMask& inGuest, const BlockMask& inStaging,
                   Recovered& found) {
    auto& state = blocks_[block];
    for (std::size_t i = 0; i < pagesPerBlock; ++i) {
        const auto number = firstPageOf(block) + i;
        const auto entry = pages_.get(number);
        const bool inMemory = entry.state() == PageState::resident || entry.state() == PageState::staged;
        if (entry.state() == PageState::absent) continue;
        auto now = entry;
        if (inGuest.test(i))
            now =
                inMemory
                    ? PageEntry::resident(entry.heat(), entry.slot()).asIncompressible(entry.incompressible())
                    : PageEntry::resident();
        else if (inMemory && inStaging.test(i))
            now =
                PageEntry::staged(entry.heat().level, entry.slot()).asIncompressible(entry.incompressible());
        else if (entry.state() == PageState::resident)
            now = PageEntry::absent();  // the kernel took it without telling; as in serve()
        else if (entry.state() == PageState::staged)
            now = PageEntry::cold({});  // nowhere; claimSlots() says so
        if (now == entry) continue;
        if (now.state() != entry.state()) ++found.settled;
        pages_.set(number, now);
    }
    const auto staged = pages_.pagesIn(block, PageState::staged);
    state.stagedWhole = staged == allPages() && memory_.isHuge(this->staged(block));
    state.wasHuge = state.stagedWhole;
}

/// Takes the slots that entries point to. Those of cold pages first: of them there is no other copy. Two
/// pages whose entries point to the same slot: one gave it up just before the manager died, and is in guest
/// RAM or absent by now (its entry would have said so next), or it was a copy. Likewise in the file tier.
void Pager::claimSlots(Recovered& found) {
    const auto last = firstPageOf(pages_.blocks());
    const auto lose = [&](PageNumber number) {
        ++found.lost;
        lost(number, "it is nowhere, or its place in the store is another one's");
        pages_.set(number, PageEntry::cold({}));
    };
    for (PageNumber number = 0; number < last; ++number) {
        const auto entry = pages_.get(number);
        if (entry.state() == PageState::frozen && !frozen_->store().claim(number, entry.frozenSlot()))
            lose(number);
        if (entry.state() != PageState::cold) continue;
        // They may be in LZ4: looked at when it is quiet.
        auto& loose = blocks_[blockOf(number)].loose;
        if (!loose) looseBlocks_.fetch_add(1, std::memory_order_relaxed);
        loose = true;
        if (!store_.claim(entry.slot())) lose(number);
    }
    for (PageNumber number = 0; number < last; ++number) {
        const auto entry = pages_.get(number);
        if (entry.stored() || entry.slot().bytes == 0) continue;
        if (store_.claim(entry.slot()))
            copyBytes_.fetch_add(entry.slot().bytes, std::memory_order_relaxed);
        else
            pages_.set(number, entry.withSlot({}));
    }
    store_.endClaims();
    if (frozen_ != nullptr) frozen_->store().endClaims();
}

}  // namespace thermocline::memory
