// SPDX-License-Identifier: Apache-2.0

// The pager and the file tier: cold pages that nobody wants go there, and come back without anybody but
// those who wait for them standing still.
//
// A page is frozen from the moment in which its entry says so, and until then has its slot (or is staged). A
// read begins under the lock of its block, by what the entry says then; its end looks, under the lock again,
// whether the entry is still the same. If it is, it was so all the time: the record's place is not used again
// while a read of it is under way (frozen_store.h), so no other filling can have given the page the same
// slot. If it is not, a REMOVE or another fault was quicker, and the fault is looked at anew.
//
// Only the background thread takes a page from the guest's memory to the store, and from there to the file.
// The fault thread makes pages cold, too, but only those that are frozen: so a page that is found cold, with
// the same slot, by the background thread has been so all the time since it looked last.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>

#include "memory/pager.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {
namespace {

/// To either side of a page that is read from the file: with it about as much as is read at once.
constexpr PageNumber pagesBeside = 10;

}  // namespace

// -------------------------------------------------------------------------------------------------------------
// fault thread

Served Pager::serveFrozen(PageNumber number, VmAddress address, std::uint64_t room) {
    noteFrozenBeside(number, address, room);
    readAhead();
    switch (frozen_->begin({{number, pages_.get(number).frozenSlot()}, address, true})) {
        case FrozenTier::Start::begun:
            return Served::reading;
        case FrozenTier::Start::busy:
            return Served::retry;
        case FrozenTier::Start::refused:
            break;
    }
    lost(number, "its record is not in the file tier");
    return Served::lost;
}

/// REQUIRES: the block's lock, until readAhead(). A page that is frozen is to be read, too.
void Pager::noteFrozen(PageNumber number, VmAddress address) {
    if (const auto entry = pages_.get(number); entry.state() == PageState::frozen)
        ahead_.push_back({{number, entry.frozenSlot()}, address, false});
}

/// What was noted is on its way; false where not all of it can be now.
bool Pager::readAhead() {
    const bool all = ahead_.empty() || frozen_->readAhead(ahead_) == ahead_.size();
    ahead_.clear();
    return all;
}

/// A block of which a page is wanted again is not cold for long any more. So what lies beside that page in
/// the file is read with it, for hardly more: it goes to the store, where a fault takes a tenth of the time,
/// or, where it does not compress, back to the guest, if there is room. But where more is in the file than in
/// the guest's memory the disk is needed, and all that would come and go.
void Pager::noteFrozenBeside(PageNumber number, VmAddress address, std::uint64_t room) {
    if (pages_.count(PageState::frozen) > pages_.count(PageState::resident) + pages_.count(PageState::staged))
        return;
    const auto block = blockOf(number);
    const auto first = std::max(firstPageOf(block) + pagesBeside, number) - pagesBeside;
    const auto end = std::min(firstPageOf(block + 1), number + pagesBeside + 1);
    const bool mayComeBack = room >= (end - first) * pageBytes;
    for (auto page = first; page < end; ++page) {
        const auto entry = pages_.get(page);
        const auto at = page == number ? address : addresses_.addressOf(page);
        if (entry.state() != PageState::frozen || !at) continue;
        const bool toStore = page != number && entry.frozenSlot().bytes != pageBytes;
        if (page == number || toStore || mayComeBack)
            ahead_.push_back({{page, entry.frozenSlot()}, *at, false, toStore});
    }
}

bool Pager::waitsForDisk() const {
    return frozen_ != nullptr && frozen_->faultsWait();
}

int Pager::diskEvent() const {
    return frozen_ != nullptr ? frozen_->store().readEvent() : -1;
}

void Pager::finishReads(const std::function<void(VmAddress)>& again) {
    frozen_->finish([&](const FrozenTier::Read& read, const FrozenStore::ReadDone& done) {
        const auto [number, slot] = read.record;
        const PriorityMutex::Urgent lock(shard(blockOf(number)));
        if (pages_.get(number) != PageEntry::frozen(slot) || addresses_.pageAt(read.address) != number) {
            if (read.faultWaits) again(read.address);
            return;
        }
        if (read.toStore && !read.faultWaits) {
            if (done.bytes) makeCold(number, slot, *done.bytes);
            return;
        }
        const auto bytes = page(faultWorker_, 0);
        const auto decoded = done.bytes ? decodeFrozen(number, *done.bytes, faultWorker_.codec, bytes)
                                        : Result<void>(tl::unexpected(done.bytes.error()));
        if (!decoded && !done.alone) {
            // What was read with it may be to blame.
            if (frozen_->begin(read) != FrozenTier::Start::begun && read.faultWaits) again(read.address);
            return;
        }
        if (!decoded) {
            lost(number, decoded.error().message);
            return;
        }
        const auto served = populate(number, read.address, bytes, Waking::now);
        sequencePoint("record-served");
        if (served == Served::done)
            (read.faultWaits ? counters_.frozenFaults : counters_.prefetchedPages)
                .fetch_add(1, std::memory_order_relaxed);
        else if (served == Served::retry && read.faultWaits)
            again(read.address);
    });
}

/// A frozen page's record goes back to the store; false where that has no room. REQUIRES: the block's lock.
bool Pager::makeCold(PageNumber number, FrozenSlot slot, std::span<const std::byte> record) {
    const auto cold = store_.adopt(record);
    if (!cold) return false;
    pages_.set(number, PageEntry::cold(*cold));
    sequencePoint("thawed");
    frozen_->store().release(slot);
    return true;
}

/// REQUIRES: the thread that `codec` is of.
Result<void> Pager::decodeFrozen(PageNumber number, std::span<const std::byte> record, PageCodec& codec,
                                 MutablePageBytes into) {
    if (record.size() != pageBytes) return ColdStore::decode(number, record, codec, into);
    std::copy(record.begin(), record.end(), into.begin());
    return {};
}

void Pager::bringWanted() {
    if (!frozen_) return;
    while (const auto block = frozen_->firstWanted()) {
        {
            const PriorityMutex::Urgent lock(shard(*block));
            for (auto number = firstPageOf(*block); number < firstPageOf(*block + 1); ++number)
                if (const auto address = addresses_.addressOf(number)) noteFrozen(number, *address);
            if (!readAhead()) return;
        }
        frozen_->dropFirst();
    }
}

// -------------------------------------------------------------------------------------------------------------
// background thread

std::uint32_t Pager::deciseconds() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return static_cast<std::uint32_t>(now.tv_sec * 10 + now.tv_nsec / 100'000'000);
}

bool Pager::quiet(BlockNumber block, std::chrono::milliseconds age) {
    const PriorityMutex::Patient lock(shard(block));
    return deciseconds() - blocks_[block].faulted >= static_cast<std::uint32_t>(age.count() / 100);
}

Step Pager::freeze(BlockNumber block, FreezeAge ages) {
    auto& worker = backgroundWorker_;
    const auto first = firstPageOf(block);
    auto result = Step::nothing;
    for (std::size_t from = 0; from < pagesPerBlock; from += chunkPages) {
        std::array<PageEntry, chunkPages> before;
        {
            const PriorityMutex::Patient lock(shard(block));
            const auto age = blocks_[block].wasStreamed ? ages.streamed : ages.scattered;
            if (deciseconds() - blocks_[block].wanted < static_cast<std::uint32_t>(age.count() / 100))
                return result;
            for (std::size_t i = 0; i < chunkPages; ++i) {
                const auto entry = pages_.get(first + from + i);
                if (entry.state() != PageState::cold || entry.slot().bytes == 0) continue;
                if (ColdStore::asItIs(entry.slot())) {
                    // Slot and header are more than a record holds; a page is a record by itself.
                    if (!load(first + from + i, entry, worker.codec, page(worker, i))) continue;
                } else {
                    const auto bytes = store_.bytesOf(entry.slot());
                    std::copy(bytes.begin(), bytes.end(), page(worker, i).begin());
                }
                before[i] = entry;
            }
        }
        for (std::size_t i = 0; i < chunkPages; ++i) {
            if (before[i].state() != PageState::cold) continue;
            const auto number = first + from + i;
            const auto slot =
                frozen_->put(number, std::span<const std::byte>(page(worker, i))
                                         .first(std::min<std::size_t>(before[i].slot().bytes, pageBytes)));
            if (!slot) return slot.error().code == ErrorCode::busy ? Step::retry : Step::full;
            sequencePoint("record-put");
            // An entry that is the same has been so all the time, see above.
            const PriorityMutex::Patient lock(shard(block));
            if (pages_.get(number) == before[i]) {
                pages_.set(number, PageEntry::frozen(*slot));
                sequencePoint("record-published");
                store_.release(before[i].slot());
                result = Step::done;
            } else {
                frozen_->store().release(*slot);
            }
        }
    }
    return result;
}

Step Pager::thaw(BlockNumber block) {
    bool raw = false;
    for (auto number = firstPageOf(block); number < firstPageOf(block + 1); ++number) {
        // The lock is held while the disk is read: a fault that meets it waits as it would for its own read.
        const PriorityMutex::Patient lock(shard(block));
        if (pages_.get(number).state() != PageState::frozen) continue;
        const auto slot = pages_.get(number).frozenSlot();
        if (slot.bytes == pageBytes) {
            raw = true;
            continue;
        }
        const auto record = frozen_->store().get(number, slot, page(backgroundWorker_, 0));
        if (!record) {
            lost(number, record.error().message);
            continue;
        }
        if (!makeCold(number, slot, *record)) return Step::full;
    }
    if (raw) frozen_->want(block);
    return Step::done;
}

bool Pager::tendFrozen() {
    bool wanted = false;
    if (!frozen_->tend()) {
        BlockNumber last = pages_.blocks();
        for (const auto& record : frozen_->store().failedRecords())
            if (blockOf(record.page) != last)
                wanted = thaw(last = blockOf(record.page)) == Step::done || wanted;
    }
    const auto moves = frozen_->store().compactOne();
    if (!moves) return wanted;
    for (const auto& [number, from, to] : *moves) {
        const PriorityMutex::Patient lock(shard(blockOf(number)));
        const bool same = pages_.get(number) == PageEntry::frozen(from);
        if (same) pages_.set(number, PageEntry::frozen(to));
        sequencePoint("record-moved");
        frozen_->store().release(same ? from : to);
    }
    return wanted;
}

bool Pager::restoreFrozen(BlockNumber block) {
    const PriorityMutex::Patient lock(shard(block));
    if (!pages_.pagesIn(block, PageState::frozen).any()) return false;
    frozen_->want(block);
    return true;
}

}  // namespace thermocline::memory
