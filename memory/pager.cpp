// SPDX-License-Identifier: Apache-2.0
#include "memory/pager.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace thermocline::memory {
namespace {

constexpr unsigned faultsUntilNextHugeTry = 512;

alignas(pageBytes) constexpr std::array<std::byte, pageBytes> zeros{};

}  // namespace

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
             const ProcessMemory& memory, PageMap& pages, ColdStore& store,
             std::array<AgentLane*, laneCount> lanes)
    : footprint_(footprint),
      area_(footprint.staging, addresses.blocks()),
      addresses_(std::move(addresses)),
      guest_(guest),
      drop_(drop),
      memory_(memory),
      pages_(pages),
      store_(store),
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
    return pages_.metadataBytes() + blocks_.size() * sizeof(Block) + store_.metadataBytes();
}

MutablePageBytes Pager::page(Worker& worker, std::size_t index) const {
    return MutablePageBytes(worker.buffer.data() + index * pageBytes, pageBytes);
}

// ----------------------------------------------------------------------------------------------------------
// fault thread

bool Pager::needsRoom(VmAddress address) const {
    const auto number = addresses_.pageAt(address);
    if (!number) return false;
    const auto state = pages_.peek(*number).state();
    return state != PageState::staged && state != PageState::resident;
}

bool Pager::inStore(VmAddress address) const {
    const auto number = addresses_.pageAt(address);
    if (!number) return false;
    return pages_.peek(*number).stored();
}

std::optional<BlockNumber> Pager::blockAt(VmAddress address) const {
    const auto number = addresses_.pageAt(address);
    return number ? std::optional(blockOf(*number)) : std::nullopt;
}

std::uint64_t Pager::prefetch(VmAddress first, std::int64_t strideBytes, std::uint64_t count) {
    const bool contiguous = strideBytes == static_cast<std::int64_t>(pageBytes);
    if (strideBytes == -static_cast<std::int64_t>(pageBytes)) {
        first.value -= (count - 1) * pageBytes;
        return prefetch(first, pageBytes, count);
    }
    std::uint64_t brought = 0;
    for (std::uint64_t i = 0; i < count;) {
        const VmAddress address{first.value + i * static_cast<std::uint64_t>(strideBytes)};
        const auto number = addresses_.pageAt(address);
        if (!number) break;
        // As far as addresses are contiguous, within a block and in one buffer.
        std::size_t pages = 1;
        if (contiguous) {
            const auto here = addresses_.within({address, (count - i) * pageBytes}).front();
            pages =
                std::min({here.pages, count - i, firstPageOf(blockOf(*number) + 1) - *number, chunkPages});
        }
        const PriorityMutex::Urgent lock(shard(blockOf(*number)));
        const auto got = bringStored(faultWorker_, *number, address, pages);
        brought += got.pages;
        if (got.last != Populate::done && got.last != Populate::present) break;
        i += pages;
    }
    counters_.prefetchedPages.fetch_add(brought, std::memory_order_relaxed);
    return brought;
}

bool Pager::prefetchBlock(VmAddress address) {
    const auto number = addresses_.pageAt(address);
    if (!number || freshRefused_ > 0) return false;
    const auto block = blockOf(*number);
    const auto whole = addresses_.wholeBlock(block);
    if (!whole) return false;
    const PriorityMutex::Urgent lock(shard(block));
    if (pages_.pagesIn(block, PageState::cold).count() + pages_.pagesIn(block, PageState::filled).count() !=
        pagesPerBlock)
        return false;
    std::vector<PageEntry> entries;
    if (!makeFreshHuge(faultWorker_)) {
        freshRefused_ = faultsUntilNextHugeTry;
        return false;
    }
    while (entries.size() < pagesPerBlock) {
        if (fillFresh(faultWorker_, block, entries)) continue;
        emptyFresh(faultWorker_);
        return false;
    }
    const auto step = moveFreshIn(faultWorker_, block, *whole);
    if (step != Step::done) return false;
    counters_.prefetchedPages.fetch_add(pagesPerBlock, std::memory_order_relaxed);
    return true;
}

Served Pager::serve(VmAddress address, bool write, bool roomForHuge) {
    address.value &= ~(std::uint64_t{pageBytes} - 1);
    const auto number = addresses_.pageAt(address);
    if (!number) {
        // Not guest RAM (any more): an address that mremap left behind. Zeros are what the kernel would give.
        // Where a REMAP to this very address is still to be read, the kernel answers EAGAIN and we come back
        // after reading it.
        switch (guest_.zeroPage(address)) {
            case Populate::retry:
                return Served::retry;
            case Populate::gone:
                return Served::gone;
            default:
                guest_.wake({address, pageBytes});
                return Served::done;
        }
    }
    const auto block = blockOf(*number);
    const PriorityMutex::Urgent lock(shard(block));
    const auto entry = pages_.get(*number);
    switch (entry.state()) {
        case PageState::absent:
            return serveAbsent(*number, address, write, roomForHuge);
        case PageState::staged:
            return serveStaged(*number, address);
        case PageState::cold:
        case PageState::filled:
            return serveStored(*number, address);
        case PageState::resident:
            break;
    }
    // Another thread's fault on the same page was served first. Should the page be missing nevertheless, the
    // kernel took it without telling (there is no such way today), and zeros are what it would have given.
    if (!memory_.populated(address)) {
        release(entry);
        pages_.set(*number, PageEntry::absent());
        return serveAbsent(*number, address, write, false);
    }
    counters_.spuriousFaults.fetch_add(1, std::memory_order_relaxed);
    guest_.wake({address, pageBytes});
    return Served::done;
}

Served Pager::populate(PageNumber number, VmAddress address, PageBytes bytes) {
    std::size_t copied = 0;
    switch (guest_.copy(address, bytes, copied)) {
        case Populate::present:  // a page that is there counts
            guest_.wake({address, pageBytes});
            [[fallthrough]];
        case Populate::done:
            cameBack(number, true);
            return Served::done;
        case Populate::retry:
        case Populate::failed:
            return Served::retry;  // no memory: the thread waits, as it would in the kernel
        case Populate::unmapped:
            // Unregistered: that woke the thread, and the kernel serves it. Unmapped: its event is about to
            // be read.
            return registered() ? Served::retry : Served::done;
        case Populate::gone:
            return Served::gone;
    }
    return Served::gone;
}

bool Pager::makeFreshHuge(Worker& worker) {
    worker.lane->populate(worker.fresh.start);
    if (worker.lane->run().empty()) return false;
    if (memory_.isHuge(worker.fresh.start)) return true;
    emptyFresh(worker);
    return false;
}

void Pager::emptyFresh(Worker& worker) {
    worker.lane->advise(worker.fresh, MADV_DONTNEED);
    worker.lane->run();
}

Served Pager::serveAbsent(PageNumber number, VmAddress address, bool write, bool roomForHuge) {
    const auto block = blockOf(number);
    const auto whole = addresses_.wholeBlock(block);
    if (freshRefused_ > 0) --freshRefused_;
    if (roomForHuge && whole && freshRefused_ == 0 &&
        pages_.pagesIn(block, PageState::absent).count() == pagesPerBlock) {
        // As the kernel would: a block that was never touched starts as one huge page. Fresh is all zeros:
        // only populate() ever writes there, and a huge page leaves it whole.
        if (makeFreshHuge(faultWorker_)) {
            const auto moved = moveIn(faultWorker_, block, *whole, faultWorker_.fresh.start, allPages());
            if (moved.step == Step::gone) return Served::gone;
            if (moved.step != Step::done) emptyFresh(faultWorker_);
            if (moved.pages.test(number % pagesPerBlock)) {
                counters_.zeroFaults.fetch_add(1, std::memory_order_relaxed);
                return Served::done;
            }
            if (moved.step == Step::retry) return Served::retry;
        }
        freshRefused_ = faultsUntilNextHugeTry;
    }
    if (write) {
        const auto served = populate(number, address, PageBytes(zeros));
        if (served == Served::done) counters_.zeroFaults.fetch_add(1, std::memory_order_relaxed);
        return served;
    }
    switch (guest_.zeroPage(address)) {
        case Populate::present:
            guest_.wake({address, pageBytes});
            [[fallthrough]];
        case Populate::done:
            pages_.set(number, PageEntry::resident());
            counters_.zeroFaults.fetch_add(1, std::memory_order_relaxed);
            return Served::done;
        case Populate::gone:
            return Served::gone;
        case Populate::unmapped:
            return registered() ? Served::retry : Served::done;
        case Populate::retry:
        case Populate::failed:
            break;
    }
    return Served::retry;
}

Served Pager::serveStaged(PageNumber number, VmAddress address) {
    const auto block = blockOf(number);
    auto& state = blocks_[block];
    if (state.stagedWhole) {
        const auto whole = addresses_.wholeBlock(block);
        if (whole) {
            const auto moved = moveIn(faultWorker_, block, *whole, staged(block), allPages());
            if (moved.pages.any()) {
                state.stagedWhole = false;
                state.heat = state.heat.touched();
            }
            if (moved.step == Step::gone) return Served::gone;
            if (moved.pages.test(number % pagesPerBlock)) {
                counters_.stagedFaults.fetch_add(1, std::memory_order_relaxed);
                return Served::done;
            }
            if (moved.step == Step::retry) return Served::retry;
        }
        // It cannot go back as one piece (part of its address range was unmapped, or the kernel split it):
        // page by page.
        state.stagedWhole = false;
    }
    // One page is quicker to copy from here than to have moved by the agent: no second process has to wake
    // up. The staged original becomes a leftover, freed later.
    const auto bytes = page(faultWorker_, 0);
    if (const auto read = memory_.read(area_.page(number), bytes); !read) {
        if (read.error().code == ErrorCode::processGone) return Served::gone;
        counters_.lostPages.fetch_add(1, std::memory_order_relaxed);
        spdlog::critical("page {} at {:#x} is staged but cannot be read: {}", number, address.value,
                         read.error().message);
        return Served::lost;
    }
    const auto served = populate(number, address, bytes);
    if (served == Served::done) {
        BlockMask mask;
        mask.set(number % pagesPerBlock);
        addLeftovers(block, mask);
        counters_.stagedFaults.fetch_add(1, std::memory_order_relaxed);
    }
    return served;
}

Served Pager::serveStored(PageNumber number, VmAddress address) {
    const auto bytes = page(faultWorker_, 0);
    if (!load(number, pages_.get(number), faultWorker_.codec, bytes)) return Served::lost;
    const auto served = populate(number, address, bytes);
    if (served == Served::done) {
        counters_.coldFaults.fetch_add(1, std::memory_order_relaxed);
    }
    return served;
}

void Pager::applyEvent(const uffd_msg& message) {
    switch (message.event) {
        case UFFD_EVENT_REMOVE:
        case UFFD_EVENT_UNMAP: {
            const VmRange range{{message.arg.remove.start},
                                message.arg.remove.end - message.arg.remove.start};
            for (const auto& part : addresses_.within(range))
                discard(part.first, part.pages);
            if (message.event == UFFD_EVENT_UNMAP) {
                addresses_.unmap(range);
                memoryBytes_ = addresses_.pages() * pageBytes;
            }
            break;
        }
        case UFFD_EVENT_REMAP:
            // What the target held before is gone (MREMAP_FIXED unmaps it, with an UNMAP event of its own).
            addresses_.remap({{message.arg.remap.from}, message.arg.remap.len}, {message.arg.remap.to});
            break;
        default:
            break;
    }
}

/// The guest gave these pages up. Everything we hold of them goes; whether the kernel has zapped the resident
/// ones already or is about to makes no difference, since absent pages are neither moved out nor brought
/// back: the next thing that can happen to them is the zap or, after it, a fault that gets zeros.
void Pager::discard(PageNumber first, std::uint64_t count) {
    for (PageNumber number = first; number < first + count;) {
        const auto block = blockOf(number);
        const auto end = std::min(first + count, firstPageOf(block + 1));
        const PriorityMutex::Urgent lock(shard(block));
        BlockMask wasStaged;
        blocks_[block].wasHuge = false;
        for (; number < end; ++number) {
            const auto entry = pages_.get(number);
            if (entry.state() == PageState::staged) wasStaged.set(number % pagesPerBlock);
            release(entry);
            pages_.set(number, PageEntry::absent());
        }
        if (!wasStaged.any()) continue;
        blocks_[block].stagedWhole = false;
        addLeftovers(block, wasStaged);
        // Pages in the staging area have no other owner, so dropping them can only fail for a moment; they
        // then stay leftovers and are dropped before the block is staged again.
        dropLeftoversLocked(faultWorker_, block);
    }
}

// ------------------------------------------------------------------------------------------------------------
// either thread

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
                    ++piece.cold;
                    break;
            }
        }
    }
    return map;
}

/// Frees the slot of an entry that is about to be replaced.
void Pager::release(PageEntry entry) {
    const auto slot = entry.slot();
    if (slot.bytes == 0) return;
    if (entry.state() != PageState::cold) copyBytes_.fetch_sub(slot.bytes, std::memory_order_relaxed);
    store_.release(slot);
}

/// The page is in guest RAM now; `touched`: because the guest asked for this very page. REQUIRES: its block's
/// lock.
void Pager::cameBack(PageNumber number, bool touched) {
    const auto entry = pages_.get(number);
    switch (entry.state()) {
        case PageState::cold:
            if (copyWanted()) {
                copyBytes_.fetch_add(entry.slot().bytes, std::memory_order_relaxed);
                return pages_.set(number, PageEntry::resident({}, entry.slot()));
            }
            release(entry);
            return pages_.set(number, PageEntry::resident());
        case PageState::staged: {
            // Touched again and again, it will not go to the store soon.
            const auto heat = touched ? entry.heat().touched() : entry.heat();
            if (heat.level < Heat::maxLevel)
                return pages_.set(number, PageEntry::resident(heat, entry.slot()));
            release(entry);
            return pages_.set(number, PageEntry::resident(heat));
        }
        case PageState::resident:
            return;
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
    counters_.lostPages.fetch_add(1, std::memory_order_relaxed);
    spdlog::critical("page {} cannot be brought back, threads that need it wait: {}", number,
                     got.error().message);
    return false;
}

void Pager::addLeftovers(BlockNumber block, const BlockMask& mask) {
    auto& leftover = blocks_[block].leftover;
    const auto before = leftover.count();
    for (std::size_t w = 0; w < mask.words().size(); ++w)
        leftover.words()[w] |= mask.words()[w];
    leftoverPages_.fetch_add(leftover.count() - before, std::memory_order_relaxed);
}

Step Pager::dropLeftoversLocked(Worker& worker, BlockNumber block) {
    const auto wanted = blocks_[block].leftover;
    if (!wanted.any()) return Step::nothing;
    const auto moved = moveToDrop(worker, block, wanted);
    return moved ? forgetLeftovers(block, *moved) : Step::gone;
}

/// Frees pages of the staging area at the next run, by two operations; the first tells which could be. Not
/// MADV_DONTNEED where they are: the staging area raises events like guest RAM, and we are their only reader.
/// So they are moved to an area without events first; the whole block as one page if it is one.
void Pager::queueDrop(Worker& worker, BlockNumber block, const BlockMask& wanted) {
    worker.lane->movePages(footprint_.dropUffd, worker.drop.start, staged(block), wanted);
    worker.lane->advise(worker.drop, MADV_DONTNEED);
}

/// The pages that were dropped; nothing where the process is gone.
std::optional<BlockMask> Pager::moveToDrop(Worker& worker, BlockNumber block, const BlockMask& wanted) {
    queueDrop(worker, block, wanted);
    const auto& outcome = worker.lane->run();
    if (outcome.empty()) return std::nullopt;
    return outcome[0].moved;
}

/// REQUIRES: the block's lock.
Step Pager::forgetLeftovers(BlockNumber block, const BlockMask& moved) {
    auto& leftover = blocks_[block].leftover;
    const auto before = leftover.count();
    for (std::size_t w = 0; w < moved.words().size(); ++w)
        leftover.words()[w] &= ~moved.words()[w];
    if (leftover.any()) {
        // The truth is what is in the staging area.
        BlockMask there;
        (void)memory_.forEachPopulated({staged(block), blockBytes}, [&](VmRange run) {
            for (auto at = run.start; at < run.end(); at = at + pageBytes)
                there.set((at - staged(block)) / pageBytes);
        });
        for (std::size_t w = 0; w < there.words().size(); ++w)
            leftover.words()[w] &= there.words()[w];
    }
    leftoverPages_.fetch_sub(before - leftover.count(), std::memory_order_relaxed);
    return leftover.any() ? Step::retry : Step::done;
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
        brought.last =
            guest_.copy(address + i * pageBytes, std::span(worker.buffer).first(run * pageBytes), copied);
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

/// Fills the worker's fresh huge page with a block that is in the store from end to end; one entry for each
/// of its pages. REQUIRES: the block's lock.
bool Pager::fillFresh(Worker& worker, BlockNumber block, std::vector<PageEntry>& entries) {
    const auto from = entries.size();
    for (std::size_t i = from; i < std::min(from + chunkPages, pagesPerBlock); ++i) {
        const auto number = firstPageOf(block) + i;
        const auto entry = pages_.get(number);
        if (!entry.stored() || !load(number, entry, worker.codec, page(worker, i - from))) return false;
        entries.push_back(entry);
    }
    return memory_.write(worker.fresh.start + from * pageBytes, worker.buffer).has_value();
}

/// Puts the worker's fresh page in the place of a block. REQUIRES: the block's lock; the
/// layout lock or the fault thread.
Step Pager::moveFreshIn(Worker& worker, BlockNumber block, VmAddress address) {
    const auto moved = moveIn(worker, block, address, worker.fresh.start, allPages());
    if (moved.step != Step::done) emptyFresh(worker);
    return moved.step == Step::pinned ? Step::nothing : moved.step;
}

/// Asks the agent to move `want` of a block (huge where source and mask are) into guest RAM; the pages that
/// moved are resident.
Pager::Moved Pager::moveIn(Worker& worker, BlockNumber block, VmAddress to, VmAddress from,
                           const BlockMask& want) {
    worker.lane->movePages(footprint_.guestUffd, to, from, want);
    const auto& outcome = worker.lane->run();
    if (outcome.empty()) return {{}, Step::gone};
    Moved result{outcome[0].moved, stepOf(outcome[0].error)};
    for (std::size_t w = 0; w < want.words().size(); ++w)
        result.pages.words()[w] &= want.words()[w];
    result.pages.forEach([&](std::size_t i) { cameBack(firstPageOf(block) + i, false); });
    return result;
}

}  // namespace thermocline::memory
