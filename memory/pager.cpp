// SPDX-License-Identifier: Apache-2.0
#include "memory/pager.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <numeric>
#include <utility>

#include "memory/sequence_point.h"

namespace thermocline::memory {

Step stepOf(int error) {
    switch (error) {
        case 0:
            return Step::done;
        case EAGAIN:
            return Step::retry;
        case EBUSY:
            return Step::pinned;
        case ESRCH:
            return Step::gone;
        default:
            return Step::nothing;  // ENOENT, EEXIST, EINVAL: not there (any more); an event will tell why
    }
}

Pager::Pager(const Footprint& footprint, AddressMap addresses, Userfault& guest, Userfault& drop,
             const ProcessMemory& memory, PageMap& pages, EventJournal& journal, ColdStore& store,
             FrozenTier* frozen, std::array<AgentLane*, laneCount> lanes, const GuestFiles* files)
    : footprint_(footprint),
      area_(footprint.staging, addresses.blocks()),
      addresses_(std::move(addresses)),
      guest_(guest),
      drop_(drop),
      memory_(memory),
      pages_(pages),
      journal_(journal),
      store_(store),
      frozen_(frozen),
      files_(files),
      blocks_(addresses_.blocks()) {
    std::size_t lane = 0;
    for (auto* worker : {&faultWorker_, &backgroundWorker_}) {
        worker->lane = lanes[lane];
        worker->drop = area_.drop(lane);
        worker->fresh = area_.fresh(lane);
        worker->buffer.resize(chunkPages * pageBytes);
        ++lane;
    }
    memoryBytes_ = addresses_.pages() * pageBytes;
}

std::uint64_t Pager::metadataBytes() const {
    return pages_.metadataBytes() + blocks_.size() * sizeof(Block) + store_.metadataBytes() +
           (frozen_ != nullptr ? frozen_->metadataBytes() : 0);
}

MutablePageBytes Pager::page(Worker& worker, std::size_t index) const {
    return MutablePageBytes(worker.buffer.data() + index * pageBytes, pageBytes);
}

Result<void> Pager::registerGuest() {
    if (registered()) return {};
    const PriorityMutex::Patient layout(layout_);
    // A fault that was read before the last unregistering may still be on its way: no entry changes under us.
    std::deque<PriorityMutex::Patient> blocks;
    for (auto& mutex : shards_)
        blocks.emplace_back(mutex);
    for (const auto& extent : addresses_.extents())
        THERMOCLINE_TRY(guest_.registerRange(extent.range(), guestRegisterModes(footprint_.mechanism)));
    sequencePoint("guest-registered");
    // From here on pages appear only through us, and we are here; they vanish only after their REMOVE event
    // was read, which takes the lock that we hold. So the scan sees a state that holds until we let go.
    pages_.setAll(0, firstPageOf(pages_.blocks()), PageEntry::absent());
    for (const auto& extent : addresses_.extents()) {
        if (unmaps()) {  // mapped or not, they are the guest's
            THERMOCLINE_TRY(
                files_->forEachPage(extent.first, extent.pages, [&](PageNumber first, std::uint64_t count) {
                    pages_.setAll(first, count, PageEntry::resident());
                }));
            continue;
        }
        THERMOCLINE_TRY(memory_.forEachPopulated(extent.range(), [&](VmRange run) {
            pages_.setAll(extent.first + (run.start - extent.start) / pageBytes, run.bytes / pageBytes,
                          PageEntry::resident());
        }));
    }
    sequencePoint("guest-scanned");
    journal_.setRegistered(true);  // the page map is true from now on
    registered_ = true;
    return {};
}

Result<bool> Pager::unregisterGuest() {
    if (!registered()) return true;
    const PriorityMutex::Patient layout(layout_);
    if (pages_.count(PageState::staged) + pages_.count(PageState::cold) + pages_.count(PageState::filled) +
            pages_.count(PageState::frozen) + copyBytes() !=
        0)
        return false;
    // A fault that the other thread is about to serve meets an unregistered range: unregistering woke its
    // thread, and the kernel serves it (Populate::unmapped).
    journal_.setRegistered(false);
    sequencePoint("guest-let-go");
    registered_ = false;
    for (const auto& extent : addresses_.extents())
        THERMOCLINE_TRY(guest_.unregister(extent.range()));
    return true;
}

HeatMap Pager::heat(std::size_t pieces) const {
    HeatMap map;
    const auto pages = firstPageOf(pages_.blocks());
    map.pieces.resize(std::clamp<std::size_t>(pieces, 1, pages));
    for (BlockNumber block = 0; block < pages_.blocks(); ++block) {
        const PriorityMutex::Patient lock(shard(block));
        const bool hotBlock = blocks_[block].heat.level > 0;
        for (auto number = firstPageOf(block); number < firstPageOf(block + 1); ++number) {
            auto& piece = map.pieces[number * map.pieces.size() / pages];
            const auto entry = pages_.get(number);
            switch (entry.state()) {
                case PageState::absent:
                    break;
                case PageState::resident:
                    ++(hotBlock || entry.heat().level > 0 ? piece.hot : piece.resident);
                    map.workingSetBytes += pageBytes;
                    break;
                case PageState::staged:
                    ++piece.staged;
                    break;
                case PageState::cold:
                case PageState::filled:
                case PageState::frozen:
                    ++piece.cold;
                    break;
            }
        }
    }
    return map;
}

std::vector<BlockNumber> Pager::hottestFirst() const {
    std::vector<BlockNumber> order(blocks_.size());
    std::iota(order.begin(), order.end(), BlockNumber{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](BlockNumber a, BlockNumber b) { return blocks_[a].evicted > blocks_[b].evicted; });
    return order;
}

std::vector<Pager::InMemory> Pager::inMemory() const {
    std::vector<InMemory> found;
    for (BlockNumber block = 0; block < pages_.blocks(); ++block) {
        const PriorityMutex::Patient lock(shard(block));
        InMemory part{block, pages_.pagesIn(block, PageState::resident)};
        part.pages |= pages_.pagesIn(block, PageState::staged);
        if (!part.pages.any()) continue;
        const bool all = blocks_[block].heat.level > 0;
        part.pages.forEach(
            [&](std::size_t i) { part.hot += all || pages_.get(firstPageOf(block) + i).heat().level > 0; });
        found.push_back(part);
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const InMemory& a, const InMemory& b) { return a.hot > b.hot; });
    return found;
}

BlockMask Pager::stagedPages(BlockNumber block) {
    const PriorityMutex::Patient lock(shard(block));
    return pages_.pagesIn(block, PageState::staged);
}

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

/// Frees the slot of an entry that is about to be replaced.
void Pager::release(PageEntry entry) {
    if (entry.state() == PageState::frozen) return frozen_->store().release(entry.frozenSlot());
    const auto slot = entry.slot();
    if (slot.bytes == 0) return;
    if (entry.state() != PageState::cold) copyBytes_.fetch_sub(slot.bytes, std::memory_order_relaxed);
    store_.release(slot);
}

/// The page is in guest RAM now; `touched`: because the guest asked for this very page. REQUIRES: its block's
/// lock.
void Pager::cameBack(PageNumber number, bool touched) {
    const auto entry = pages_.get(number);
    if (frozen_ != nullptr) blocks_[blockOf(number)].wanted = deciseconds();
    switch (entry.state()) {
        case PageState::cold:
            if (copyWanted() && !ColdStore::asItIs(entry.slot())) {
                copyBytes_.fetch_add(entry.slot().bytes, std::memory_order_relaxed);
                return pages_.set(number, PageEntry::resident({}, entry.slot()));
            }
            release(entry);
            return pages_.set(number, PageEntry::resident());
        case PageState::staged: {
            // Touched again and again, it will not go to the store soon.
            const auto heat = touched ? entry.heat().touched() : entry.heat();
            if (heat.level < Heat::maxLevel)
                return pages_.set(
                    number, PageEntry::resident(heat, entry.slot()).asIncompressible(entry.incompressible()));
            release(entry);
            return pages_.set(number, PageEntry::resident(heat).asIncompressible(entry.incompressible()));
        }
        case PageState::resident:
            return;
        case PageState::frozen:
            release(entry);
            [[fallthrough]];
        case PageState::absent:
        case PageState::filled:
            return pages_.set(number, PageEntry::resident());
    }
}

/// Copies may take a third of what they are copies of.
bool Pager::copyWanted() const {
    return keepCopies_.load(std::memory_order_relaxed) &&
           copyBytes() <
               (pages_.count(PageState::resident) + pages_.count(PageState::staged)) * pageBytes / 3;
}

bool Pager::load(PageNumber number, PageEntry entry, PageCodec& codec, MutablePageBytes into) {
    if (entry.state() == PageState::filled) {
        PageCodec::fill(into, entry.fillWord());
        return true;
    }
    const auto got = store_.get(number, entry.slot(), codec, into);
    if (got) return true;
    lost(number, got.error().message);
    return false;
}

/// Its bytes cannot be had. Its entry stays as it is, so nobody gets others in their place.
void Pager::lost(PageNumber number, const std::string& why) {
    auto note = fmt::format("page {} cannot be brought back: {}", number, why);
    spdlog::critical("{}; threads that need it wait", note);
    {
        const std::lock_guard lock(lostMutex_);
        if (lostNote_.empty()) lostNote_ = std::move(note);
    }
    counters_.lostPages.fetch_add(1, std::memory_order_relaxed);
}

std::string Pager::lostNote() const {
    const std::lock_guard lock(lostMutex_);
    return lostNote_;
}

/// Asks the agent to move `want` of a block (huge where source and mask are) into guest RAM; the pages that
/// moved are resident.
Pager::Moved Pager::moveIn(Worker& worker, BlockNumber block, VmAddress to, VmAddress from,
                           const BlockMask& want) {
    worker.lane->movePages(footprint_.guestUffd, to, from, want);
    const auto& outcome = worker.lane->run();
    if (outcome.empty()) return {{}, Step::gone};
    sequencePoint("moved-in");
    Moved result{outcome[0].pages, stepOf(outcome[0].error)};
    result.pages &= want;
    result.pages.forEach([&](std::size_t i) { cameBack(firstPageOf(block) + i, false); });
    return result;
}

}  // namespace thermocline::memory
