// SPDX-License-Identifier: Apache-2.0

// The pager's fault thread: what the guest waits for, what it will want next, and what it gives up.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "memory/pager.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {

namespace {

constexpr unsigned faultsUntilNextHugeTry = 512;
/// So much is left for others when a fresh page is a huge one.
constexpr std::uint64_t roomForHuge = 2 * blockBytes;

alignas(pageBytes) constexpr std::array<std::byte, pageBytes> zeros{};

bool isThere(Served served) {
    return served == Served::done || served == Served::asleep;
}

}  // namespace

bool Pager::needsRoom(VmAddress address) const {
    const auto number = addresses_.pageAt(address);
    if (!number) return false;
    const auto state = pages_.peek(*number).state();
    return state != PageState::staged && state != PageState::resident;
}

bool Pager::inStore(VmAddress address) const {
    const auto number = addresses_.pageAt(address);
    if (!number) return false;
    const auto entry = pages_.peek(*number);
    return entry.stored() || entry.state() == PageState::frozen;
}

std::optional<BlockNumber> Pager::blockAt(VmAddress address) const {
    const auto number = addresses_.pageAt(address);
    return number ? std::optional(blockOf(*number)) : std::nullopt;
}

Served Pager::serve(VmAddress address, bool write, std::uint64_t room, Waking waking) {
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
    if (blocks_[block].dropping.test(*number % pagesPerBlock)) {
        putOff_.store(true, std::memory_order_relaxed);
        return Served::retry;
    }
    if (frozen_ != nullptr) blocks_[block].faulted = deciseconds();
    const auto entry = pages_.get(*number);
    switch (entry.state()) {
        case PageState::absent:
            return serveAbsent(*number, address, write, room >= roomForHuge, waking);
        case PageState::staged:
            return unmaps() ? serveFromFile(*number, address, write) : serveStaged(*number, address, waking);
        case PageState::cold:
        case PageState::filled:
            return serveStored(*number, address, waking);
        case PageState::frozen:
            return serveFrozen(*number, address, room);
        case PageState::resident:
            if (unmaps()) return serveFromFile(*number, address, write);
            break;
    }
    // Another thread's fault on the same page was served first. Should the page be missing nevertheless, the
    // kernel took it without telling (there is no such way today), and zeros are what it would have given.
    if (!memory_.populated(address)) {
        release(entry);
        pages_.set(*number, PageEntry::absent());
        return serveAbsent(*number, address, write, false, waking);
    }
    counters_.spuriousFaults.fetch_add(1, std::memory_order_relaxed);
    letGo(address);
    return Served::done;
}

Served Pager::serveAbsent(PageNumber number, VmAddress address, bool write, bool mayBeHuge, Waking waking) {
    if (unmaps()) return serveHole(number, address);
    const auto block = blockOf(number);
    const auto whole = addresses_.wholeBlock(block);
    if (freshRefused_ > 0) --freshRefused_;
    if (mayBeHuge && whole && freshRefused_ == 0 &&
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
        const auto served = populate(number, address, PageBytes(zeros), waking);
        if (isThere(served)) counters_.zeroFaults.fetch_add(1, std::memory_order_relaxed);
        return served;
    }
    switch (guest_.zeroPage(address)) {
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
            break;
    }
    return Served::retry;
}

Served Pager::serveStaged(PageNumber number, VmAddress address, Waking waking) {
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
                countStagedFault(moved.pages.count());
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
    const auto served = populate(number, address, bytes, waking);
    if (isThere(served)) {
        BlockMask mask;
        mask.set(number % pagesPerBlock);
        addLeftovers(block, mask);
        countStagedFault(1);
    }
    return served;
}

void Pager::countStagedFault(std::uint64_t pages) {
    counters_.stagedBack.fetch_add(pages, std::memory_order_relaxed);
    counters_.stagedFaults.fetch_add(1, std::memory_order_relaxed);
}

Served Pager::serveStored(PageNumber number, VmAddress address, Waking waking) {
    const auto bytes = page(faultWorker_, 0);
    if (!load(number, pages_.get(number), faultWorker_.codec, bytes)) return Served::lost;
    const auto served = populate(number, address, bytes, waking);
    if (isThere(served)) counters_.coldFaults.fetch_add(1, std::memory_order_relaxed);
    return served;
}

Served Pager::populate(PageNumber number, VmAddress address, PageBytes bytes, Waking waking) {
    std::size_t copied = 0;
    const auto outcome = putIn(number, address, bytes, copied, waking);
    sequencePoint("fault-served");
    switch (outcome) {
        case Populate::present:  // a page that is there counts
            letGo(address);
            cameBack(number, true);
            return Served::done;
        case Populate::done:
            cameBack(number, true);
            return waking == Waking::later ? Served::asleep : Served::done;
        case Populate::retry:
        case Populate::failed:
        case Populate::hole:
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

void Pager::letGo(VmAddress page) {
    if (footprint_.mechanism == Mechanism::copy)
        guest_.unprotect({page, pageBytes});
    else
        guest_.wake({page, pageBytes});
}

std::uint64_t Pager::prefetch(VmAddress first, std::int64_t strideBytes, std::uint64_t count) {
    const bool contiguous = strideBytes == static_cast<std::int64_t>(pageBytes);
    if (strideBytes == -static_cast<std::int64_t>(pageBytes)) {
        first.value -= (count - 1) * pageBytes;
        return prefetch(first, pageBytes, count);
    }
    std::uint64_t brought = 0;
    bool refused = false;
    const auto at = [&](std::uint64_t i) {
        return VmAddress{first.value + i * static_cast<std::uint64_t>(strideBytes)};
    };
    for (std::uint64_t i = 0; i < count && !refused;) {
        auto number = addresses_.pageAt(at(i));
        if (!number) break;
        const auto block = blockOf(*number);
        const PriorityMutex::Urgent lock(shard(block));
        for (; i < count && !refused && number && blockOf(*number) == block;
             number = addresses_.pageAt(at(i))) {
            // As far as addresses are contiguous, within a block and in one buffer.
            std::size_t pages = 1;
            if (contiguous) {
                const auto here = addresses_.within({at(i), (count - i) * pageBytes}).front();
                pages = std::min({here.pages, count - i, firstPageOf(block + 1) - *number, chunkPages});
            }
            const auto got = bringStored(faultWorker_, *number, at(i), pages);
            brought += got.pages;
            for (std::size_t k = 0; k < pages; ++k)
                noteFrozen(*number + k, at(i) + k * pageBytes);
            refused = got.last != Populate::done && got.last != Populate::present;
            i += pages;
        }
        readAhead();
    }
    counters_.prefetchedPages.fetch_add(brought, std::memory_order_relaxed);
    return brought;
}

bool Pager::mayComeWhole(VmAddress address) {
    if (freshRefused_ > 0) --freshRefused_;
    const auto number = addresses_.pageAt(address);
    if (!number || !moves() || freshRefused_ > 0) return false;
    const auto first = firstPageOf(blockOf(*number));
    for (auto page = first; page < first + pagesPerBlock; ++page)
        if (const auto state = pages_.peek(page).state();
            state != PageState::cold && state != PageState::filled)
            return false;
    return addresses_.wholeBlock(blockOf(*number)).has_value();
}

bool Pager::takeStreamed(BlockNumber block) {
    const PriorityMutex::Patient lock(shard(block));
    auto& state = blocks_[block];
    return state.wasStreamed = std::exchange(state.streamed, false);
}

bool Pager::prefetchBlock(VmAddress address) {
    const auto number = addresses_.pageAt(address);
    if (!number || freshRefused_ > 0) return false;
    const auto block = blockOf(*number);
    const auto whole = addresses_.wholeBlock(block);
    if (!whole) return false;
    const auto spare = takeSpare();
    const bool brought = bringWhole(block, *whole, spare);
    if (spare) returnSpare(*spare, brought);
    return brought;
}

/// Fills the spare, or else a huge page of our own, and moves it to `address`.
bool Pager::bringWhole(BlockNumber block, VmAddress address, std::optional<BlockNumber> spare) {
    auto& worker = faultWorker_;
    const PriorityMutex::Urgent lock(shard(block));
    if (pages_.pagesIn(block, PageState::cold).count() + pages_.pagesIn(block, PageState::filled).count() !=
        pagesPerBlock)
        return false;
    if (!spare && !makeFreshHuge(worker)) {
        freshRefused_ = faultsUntilNextHugeTry;
        return false;
    }
    const auto fresh = spare ? staged(*spare) : worker.fresh.start;
    std::vector<PageEntry> entries;
    while (entries.size() < pagesPerBlock && fillFresh(worker, block, fresh, entries)) {
    }
    sequencePoint("fresh-filled-ahead");
    const bool brought = entries.size() == pagesPerBlock &&
                         moveIn(worker, block, address, fresh, allPages()).step == Step::done;
    if (!brought) {
        if (!spare) emptyFresh(worker);
        return false;
    }
    blocks_[block].streamed = true;
    counters_.prefetchedPages.fetch_add(pagesPerBlock, std::memory_order_relaxed);
    return true;
}

void Pager::applyEvent(const uffd_msg& message) {
    switch (message.event) {
        case UFFD_EVENT_REMOVE:
        case UFFD_EVENT_UNMAP: {
            const VmRange range{{message.arg.remove.start},
                                message.arg.remove.end - message.arg.remove.start};
            const bool unmapped = message.event == UFFD_EVENT_UNMAP;
            for (const auto& part : addresses_.within(range))
                unmapped ? discard(part.first, part.pages, false) : removed(part.first, part.pages);
            if (unmapped) {
                addresses_.unmap(range);
                journal_.addresses(addresses_);
                memoryBytes_ = addresses_.pages() * pageBytes;
            }
            break;
        }
        case UFFD_EVENT_REMAP:
            // What the target held before is gone (MREMAP_FIXED unmaps it, with an UNMAP event of its own).
            addresses_.remap({{message.arg.remap.from}, message.arg.remap.len}, {message.arg.remap.to});
            journal_.addresses(addresses_);
            break;
        default:
            break;
    }
}

/// The guest gave these pages up. Everything we hold of them goes; whether the kernel has zapped the resident
/// ones already or is about to makes no difference, since absent pages are neither moved out nor brought
/// back: the next thing that can happen to them is the zap or, after it, a fault that gets zeros.
/// `fromFile`: where guest RAM is shared, they go from its file, too.
void Pager::discard(PageNumber first, std::uint64_t count, bool fromFile) {
    for (PageNumber number = first; number < first + count;) {
        const auto block = blockOf(number);
        const auto end = std::min(first + count, firstPageOf(block + 1));
        const PriorityMutex::Urgent lock(shard(block));
        const auto begin = number;
        BlockMask wasStaged;
        setWasHuge(block, false);
        for (; number < end; ++number) {
            const auto entry = pages_.get(number);
            if (entry.state() == PageState::staged) wasStaged.set(number % pagesPerBlock);
            release(entry);
            pages_.set(number, PageEntry::absent());
        }
        if (unmaps() && fromFile) punch(begin, end - begin);
        if (unmaps() || !wasStaged.any()) continue;
        blocks_[block].stagedWhole = false;
        addLeftovers(block, wasStaged);
        // Pages in the staging area have no other owner, so dropping them can only fail for a moment; they
        // then stay leftovers and are dropped before the block is staged again.
        dropLeftoversLocked(faultWorker_, block);
    }
}

}  // namespace thermocline::memory
