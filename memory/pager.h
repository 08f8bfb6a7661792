// SPDX-License-Identifier: Apache-2.0
#pragma once

// Moves pages between the states of page_map.h: the one place where a guest's byte could get lost. Policies
// decide when; the pager only does, and keeps every step safe against faults, REMOVE events and the process's
// end.
//
// Threads: one fault thread (lockLayout, applyEvent, serve) and one background thread (everything else).
// Locks, in this order:
//   layout  held while a userfaultfd message is read and its event applied, and while the background
//   populates or moves out
//           guest pages. So between the moment in which the kernel lets a munmap or MADV_DONTNEED go on (our
//           read) and the moment in which we know of it, nobody touches the guest's pages. Before our read
//           the kernel itself refuses us (EAGAIN, mmap_changing).
//   block   held for every change of the entries of a block (sharded by block number).
// The fault thread populates without the layout lock: only itself could read an event meanwhile.

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "memory/address_map.h"
#include "memory/agent_lane.h"
#include "memory/attachment.h"
#include "memory/cold_store.h"
#include "memory/event_journal.h"
#include "memory/frozen_tier.h"
#include "memory/guest_files.h"
#include "memory/heat_map.h"
#include "memory/page_codec.h"
#include "memory/page_map.h"
#include "memory/priority_mutex.h"
#include "memory/process_memory.h"
#include "memory/userfault.h"

namespace thermocline::memory {

/// How a fault was served.
enum class Served {
    done,     ///< the page is there; the waiting thread runs
    asleep,   ///< the page is there; the waiting thread is yet to be woken (Waking::later)
    retry,    ///< the address space is changing: read events, then serve again
    gone,     ///< the process is ending
    reading,  ///< from the file tier: finishReads() will serve it
    lost,     ///< its bytes cannot be had (damaged store, read error): the thread is left waiting rather than
              ///< fed garbage
};

/// How a background step went.
enum class Step {
    done,     ///< it did what it could
    nothing,  ///< there was nothing to do
    retry,    ///< an event waits for the fault thread; try again
    pinned,   ///< pages are pinned for DMA or shared; they stay where they are
    touched,  ///< the guest took the pages back meanwhile
    hot,      ///< all of its pages are to be passed over this time (Heat)
    poor,     ///< the pages do not compress
    full,     ///< the store has no room
    gone,     ///< the process is ending
};

/// Of an agent operation's errno.
Step stepOf(int error);

class Pager {
  public:
    struct Counters {
        std::atomic<std::uint64_t> stagedFaults{0};
        std::atomic<std::uint64_t> stagedBack{0};  ///< pages that those brought: one, or a huge page
        std::atomic<std::uint64_t> coldFaults{0};
        std::atomic<std::uint64_t> frozenFaults{0};
        std::atomic<std::uint64_t> zeroFaults{0};
        std::atomic<std::uint64_t> spuriousFaults{
            0};  ///< the page was there already: another fault brought it back
        std::atomic<std::uint64_t> prefetchedPages{0};
        std::atomic<std::uint64_t> evictedPages{0};
        std::atomic<std::uint64_t> lostPages{0};
    };

    /// All references outlive the pager. `frozen` may be none; `lanes` are our mappings of the agents'
    /// control pages; `files` is needed by Mechanism::unmap alone.
    Pager(const Footprint& footprint, AddressMap addresses, Userfault& guest, Userfault& drop,
          const ProcessMemory& memory, PageMap& pages, EventJournal& journal, ColdStore& store,
          FrozenTier* frozen, std::array<AgentLane*, laneCount> lanes, const GuestFiles* files = nullptr);

    /// What recover() found.
    struct Recovered {
        std::uint64_t staged = 0;   ///< pages in the staging area
        std::uint64_t stored = 0;   ///< pages in the store
        std::uint64_t frozen = 0;   ///< pages in the file tier
        std::uint64_t settled = 0;  ///< pages that were on their way when the manager died
        std::uint64_t lost = 0;     ///< pages that nothing holds any more; who needs one waits
    };
    /// Takes over from a manager that died, at whatever instant; then faults can be served. REQUIRES: page
    /// map, journal and store are what it left, its agents are idle, and no thread runs yet. Error:
    /// notSupported, systemError, processGone; nothing is lost by trying again.
    Result<Recovered> recover();

    // -- either thread --
    [[nodiscard]] std::uint64_t memoryBytes() const { return memoryBytes_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t leftoverPages() const {
        return leftoverPages_.load(std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t metadataBytes() const;
    /// Of the leftovers, what the next block that a stream wants takes over, so that it needs no room.
    [[nodiscard]] std::uint64_t spareBytes() const {
        return spare_.load(std::memory_order_relaxed) != noBlock ? blockBytes : 0;
    }
    /// Of the store, what is copies of pages that are in memory, too.
    [[nodiscard]] std::uint64_t copyBytes() const { return copyBytes_.load(std::memory_order_relaxed); }
    /// Blocks with pages that were compressed for speed, and could be smaller.
    [[nodiscard]] std::uint64_t looseBlocks() const { return looseBlocks_.load(std::memory_order_relaxed); }
    /// Blocks that were one huge page, and may be fit to be one again.
    [[nodiscard]] std::uint64_t splitBlocks() const { return splitBlocks_.load(std::memory_order_relaxed); }
    [[nodiscard]] bool registered() const { return registered_.load(std::memory_order_relaxed); }
    [[nodiscard]] const Counters& counters() const { return counters_; }
    /// Why the first page that could not be had could not; empty where all could.
    [[nodiscard]] std::string lostNote() const;
    /// Guest RAM, as a list of what is mapped now. (either thread, under layout())
    [[nodiscard]] const AddressMap& addresses() const { return addresses_; }
    [[nodiscard]] const PageMap& pages() const { return pages_; }

    /// A picture of the pages' states, true a moment ago.
    [[nodiscard]] HeatMap heat(std::size_t pieces) const;

    // -- fault thread --
    [[nodiscard]] PriorityMutex& layout() { return layout_; }
    /// Under layout(): read messages into its buffer, and say what was applied.
    [[nodiscard]] EventJournal& journal() { return journal_; }
    /// REQUIRES: layout() held since before the message was read; all events of one read before its faults.
    void applyEvent(const uffd_msg& message);
    /// Would serving a fault there take more memory than is in use now? A guess by the page's state, without
    /// a lock.
    [[nodiscard]] bool needsRoom(VmAddress address) const;
    /// Is the page in the store or the file tier? A guess, likewise.
    [[nodiscard]] bool inStore(VmAddress address) const;
    [[nodiscard]] std::optional<BlockNumber> blockAt(VmAddress address) const;
    /// `room`: bytes that may be used beyond that page. `waking` is a wish: see what it returns.
    Served serve(VmAddress address, bool write, std::uint64_t room, Waking waking = Waking::now);
    /// Brings back up to `count` pages that are in the store, from `first` on, `strideBytes` apart; wakes
    /// nobody who waits for other pages. Returns how many came.
    std::uint64_t prefetch(VmAddress first, std::int64_t strideBytes, std::uint64_t count);
    /// Can prefetchBlock() be tried? Without a lock, so a guess. Fault thread.
    [[nodiscard]] bool mayComeWhole(VmAddress address);
    /// Brings back the block that `address` is in as one huge page, if all of it is in the store.
    bool prefetchBlock(VmAddress address);
    /// Has a sequential stream brought the block whole, or passed it, since this was asked last?
    bool takeStreamed(BlockNumber block);
    /// Readable when finishReads() has something to do; -1 without a file tier.
    [[nodiscard]] int diskEvent() const;
    /// Does a fault wait for the file tier?
    [[nodiscard]] bool waitsForDisk() const;
    /// Serves what was read from the file tier; `again`: what is to be served anew. REQUIRES: a file tier.
    void finishReads(const std::function<void(VmAddress)>& again);
    /// Goes on to read what restoreFrozen() and thaw() want back.
    void bringWanted();

    // -- background thread --
    /// Guest faults come to us from now on, and the page map tells what is resident. Does nothing when
    /// registered.
    Result<void> registerGuest();
    /// The opposite. False while anything is staged or cold. Afterwards the page map says nothing.
    Result<bool> unregisterGuest();
    /// What becomes of a huge page that was touched when it was staged the last time.
    enum class HotBlocks {
        passOver,  ///< it stays whole, and is passed over like a hot page
        split,     ///< staged in small pages: memory is scarce, and not all of it will be hot
        take,      ///< staged whatever its heat: who asks knows better
        passed,    ///< as split, but a huge page whole, and a few pages that do not compress with the others
                   ///< (see Poor::store)
    };
    /// Moves the resident pages of `block` aside; at most so many, unless it is one huge page. `poorToo`:
    /// even those that were found not to compress a short while ago. Poor where there are no others.
    Step stage(BlockNumber block, HotBlocks hot, std::size_t mostPages = pagesPerBlock, bool poorToo = false);
    /// What becomes of staged pages that do not compress.
    enum class Poor {
        moveBack,  ///< they are more use in guest RAM
        freeze,    ///< into the file tier, if there is one and it takes them
        store,     ///< a few of a block into the store as they are, which saves nothing: but then a stream
                   ///< finds the whole block there, and brings it back as one huge page
    };
    /// Makes the staged pages of `block` cold.
    Step evict(BlockNumber block, Algorithm algorithm, Poor poor = Poor::moveBack);
    /// For how long nothing of a block must have been wanted for it to be frozen.
    struct FreezeAge {
        std::chrono::milliseconds scattered;  ///< a block whose pages are wanted one by one
        std::chrono::milliseconds streamed;   ///< one that a stream wanted as a whole
    };
    /// Moves the cold pages of `block` to the file tier, if nothing of the block was wanted for long.
    /// REQUIRES, as all that follows until restoreFrozen: a file tier.
    Step freeze(BlockNumber block, FreezeAge ages);
    /// Has the guest waited for nothing of `block` for so long?
    [[nodiscard]] bool quiet(BlockNumber block, std::chrono::milliseconds age);
    /// Moves the frozen pages of `block` to the store; those that do not compress are wanted in guest RAM.
    Step thaw(BlockNumber block);
    /// Keeps the file tier in order; true where it wants pages back in guest RAM.
    bool tendFrozen();
    /// The frozen pages of `block` are wanted in guest RAM: the fault thread brings them, once woken. False
    /// where there are none.
    bool restoreFrozen(BlockNumber block);
    /// Brings every page of `block` back; as a huge page where all of it is cold, else for rebuild() to make
    /// one of it.
    Step restore(BlockNumber block);
    /// Brings `pages` of `block` back.
    Step restorePages(BlockNumber block, const BlockMask& pages);
    /// Should pages that come back leave a copy in the store? It costs memory, and saves the work of
    /// compressing those again that the guest does not change.
    void keepCopies(bool keep) { keepCopies_.store(keep, std::memory_order_relaxed); }
    /// Frees the copies that the store has of pages of `block`.
    Step dropCopies(BlockNumber block);
    /// Makes pages of `block` that were compressed for speed as small as others.
    Step tighten(BlockNumber block);
    /// Makes `block` one huge page again, if it was one and all of it is in guest RAM. Nothing where not.
    Step rebuild(BlockNumber block);
    /// Brings back the pages of `block` that are staged.
    Step unstage(BlockNumber block);
    /// Closes gaps in the store where they are too many. Nothing where there is nothing to win.
    Step compactStore();
    /// The spare huge page (spareBytes()) is to be freed with the leftovers.
    void withdrawSpare();
    /// Frees copies in the staging area that served a fault. Done for a block before it is staged, too.
    Step dropLeftovers(BlockNumber block);
    /// ... of all blocks that were evicted. REQUIRES: called after a run of evict(), which puts it off.
    Step dropAllLeftovers();

    [[nodiscard]] BlockMask stagedPages(BlockNumber block);
    /// Has a fault been put off that can be served now? FaultHandler::wake() then saves it a millisecond.
    bool takePutOff() { return putOff_.exchange(false, std::memory_order_relaxed); }
    /// All blocks, in the order in which the guest will want them back: those that were in memory longest
    /// first.
    [[nodiscard]] std::vector<BlockNumber> hottestFirst() const;
    /// What is in memory of a block, aside or not.
    struct InMemory {
        BlockNumber block = 0;
        BlockMask pages;
        std::size_t hot = 0;  ///< of them, touched the last time that they were staged
    };
    /// Of all blocks that have something there, the hottest first.
    [[nodiscard]] std::vector<InMemory> inMemory() const;

  private:
    /// Is what a block left in the staging area the spare (pager_spare.cpp)?
    enum class Spare : std::uint8_t {
        no,
        offered,  ///< the fault thread may take it
        lent,     ///< it has: nobody else touches it
    };
    static constexpr BlockNumber noBlock = ~BlockNumber{0};
    struct Block {
        bool stagedWhole = false;  ///< one huge page in the staging area, all 512 pages staged
        bool streamed = false;     ///< brought or passed by a sequential stream, not evicted since
        bool wasStreamed = false;  ///< when it was last evicted
        bool loose = false;        ///< has pages in LZ4
        bool wasHuge = false;      ///< has been seen as one huge page since it was last made one
        Spare spare = Spare::no;
        Heat heat;                    ///< of the block as a huge page
        std::uint32_t evicted = 0;    ///< when its pages last went to the store, in evictions
        std::uint32_t foundPoor = 0;  ///< when a page of it last turned out not to compress, likewise
        std::uint32_t wanted = 0;     ///< when a page of it last came back or was evicted, in deciseconds()
        std::uint32_t faulted = deciseconds();  ///< when the guest last waited for a page of it, likewise
        BlockMask leftover;                     ///< copies in the staging area that nobody needs any more
        BlockMask dropping;  ///< copied aside or to be unmapped, and not gone from guest RAM yet
    };
    /// What each of the two threads works with.
    struct Worker {
        AgentLane* lane = nullptr;
        VmRange drop;
        VmRange fresh;
        PageCodec codec;
        std::vector<std::byte> buffer;
    };
    /// Pages that we drop from guest RAM, and which of them were seen in REMOVE events, how often.
    struct OwnDrop {
        BlockNumber block;
        VmAddress base;
        BlockMask pages;
        BlockMask seen;
        BlockMask seenAgain;
    };
    static constexpr std::size_t shardCount = 32;
    static constexpr std::size_t chunkPages =
        32;  ///< compressed or copied at a time: bounds how long a fault waits
    static constexpr std::size_t movePages = 64;               ///< moved at a time, likewise
    static constexpr std::size_t unmapPages = 128;             ///< unmapped at a time, likewise
    static constexpr std::size_t dropPages = 256;              ///< dropped at a time, at least
    static constexpr std::size_t fewPoor = pagesPerBlock / 4;  ///< of a block, for Poor::store

    PriorityMutex& shard(BlockNumber block) const { return shards_[block % shardCount]; }
    [[nodiscard]] MutablePageBytes page(Worker& worker, std::size_t index) const;
    [[nodiscard]] bool moves() const { return footprint_.mechanism == Mechanism::move; }
    /// Guest RAM is shared, and what is staged is still in its file.
    [[nodiscard]] bool unmaps() const { return footprint_.mechanism == Mechanism::unmap; }
    [[nodiscard]] VmAddress staged(BlockNumber block) const { return area_.page(firstPageOf(block)); }

    Served serveAbsent(PageNumber page, VmAddress address, bool write, bool mayBeHuge, Waking waking);
    Served serveStaged(PageNumber page, VmAddress address, Waking waking);
    void countStagedFault(std::uint64_t pages);
    Served serveStored(PageNumber page, VmAddress address, Waking waking);
    Served serveFromFile(PageNumber page, VmAddress address, bool write);
    Served serveHole(PageNumber page, VmAddress address);
    Served serveFrozen(PageNumber page, VmAddress address, std::uint64_t room);
    void noteFrozen(PageNumber page, VmAddress address);
    void noteFrozenBeside(PageNumber page, VmAddress address, std::uint64_t room);
    bool makeCold(PageNumber page, FrozenSlot slot, std::span<const std::byte> record);
    bool readAhead();
    static Result<void> decodeFrozen(PageNumber page, std::span<const std::byte> record, PageCodec& codec,
                                     MutablePageBytes into);
    static std::uint32_t deciseconds();

    Served populate(PageNumber page, VmAddress address, PageBytes bytes, Waking waking);
    Populate putIn(PageNumber first, VmAddress to, std::span<const std::byte> bytes, std::size_t& copied,
                   Waking waking = Waking::now);
    struct Moved {
        BlockMask pages;  ///< those that are in guest RAM now
        Step step;        ///< done where all were moved, else why the last one was not
    };
    Moved moveIn(Worker& worker, BlockNumber block, VmAddress to, VmAddress from, const BlockMask& want);
    bool makeFreshHuge(Worker& worker);
    void emptyFresh(Worker& worker);

    // pager_recovery.cpp
    void replay(const uffd_msg& message);
    void replayUnapplied();
    Result<void> clearAreas();
    [[nodiscard]] Result<std::vector<BlockMask>> populatedIn(
        const std::vector<AddressMap::Extent>& extents) const;
    void settle(BlockNumber block, const BlockMask& inGuest, const BlockMask& inStaging, Recovered& found);
    void claimSlots(Recovered& found);

    void removed(PageNumber first, std::uint64_t count);
    void discard(PageNumber first, std::uint64_t count, bool fromFile);
    void punch(PageNumber first, std::uint64_t count);
    void release(PageEntry entry);
    void cameBack(PageNumber page, bool touched);
    [[nodiscard]] bool copyWanted() const;
    bool load(PageNumber page, PageEntry entry, PageCodec& codec, MutablePageBytes into);
    void lost(PageNumber page, const std::string& why);
    Step dropLeftoversLocked(Worker& worker, BlockNumber block);
    Step dropLater(BlockNumber block);
    void queueDrop(Worker& worker, BlockNumber block, const BlockMask& wanted);
    std::optional<BlockMask> moveToDrop(Worker& worker, BlockNumber block, const BlockMask& wanted);
    Step forgetLeftovers(BlockNumber block, const BlockMask& moved);
    void addLeftovers(BlockNumber block, const BlockMask& mask);
    BlockMask takeLeftovers(BlockNumber block);
    void setSpare(Block& block, Spare spare);
    bool offerSpare(BlockNumber block);
    std::optional<BlockNumber> takeSpare();
    void returnSpare(BlockNumber block, bool used);
    Step stageWhole(BlockNumber block, VmAddress address);
    Step stagePages(BlockNumber block, BlockMask want);
    Step moveAside(BlockNumber block, VmAddress base, const BlockMask& want);
    Step copyAside(BlockNumber block, VmAddress base, const BlockMask& want);
    Step unmapAside(BlockNumber block, VmAddress base, const BlockMask& want);
    Moved mapBack(BlockNumber block, VmAddress base, const BlockMask& want);
    void keepMapped(const OwnDrop& drop, const BlockMask& unmapped);
    void vanished(PageNumber page);
    void freeEvicted(BlockNumber block, const BlockMask& cold);
    Result<void> readStaged(PageNumber first, std::span<std::byte> into) const;
    Step refuseWherePinned();
    Step dropCopied();
    Moved copyBack(Worker& worker, BlockNumber block, VmAddress base, const BlockMask& want);
    /// The page is there whoever put it there: who waits for it may go on.
    void letGo(VmAddress page);
    void passOverPoor(BlockNumber block, BlockMask& want, HotBlocks hot) const;
    void passOverHot(BlockNumber block, BlockMask& want, HotBlocks hot);
    Step evictWhole(BlockNumber block, Algorithm algorithm, Poor poor);
    Step evictPages(BlockNumber block, Algorithm algorithm, Poor poor);
    /// What a staged page's entry could become.
    struct Candidate {
        PageEntry entry;
        bool fresh = false;  ///< its slot was written for it, and is nobody's until it is published
    };
    std::vector<Candidate> compressChunk(BlockNumber block, std::span<const std::size_t> pages,
                                         Algorithm algorithm, Poor poor, std::size_t& mayStayPoor,
                                         Step& step);
    void publish(PageNumber page, const Candidate& candidate, Algorithm algorithm);
    Step unstageIncompressible(BlockNumber block);
    Step moveBack(BlockNumber block, const BlockMask& want);
    void keepAsCopy(PageNumber page, PageEntry candidate);
    void movedAside(PageNumber page);
    Step restoreWhole(BlockNumber block, VmAddress address);
    Step restoreStored(BlockNumber block, const BlockMask& pages = allPages());
    void setWasHuge(BlockNumber block, bool was);
    bool fillFresh(Worker& worker, BlockNumber block, VmAddress fresh, std::vector<PageEntry>& entries);
    bool bringWhole(BlockNumber block, VmAddress address, std::optional<BlockNumber> spare);
    struct Brought {
        std::size_t pages = 0;  ///< now resident
        Populate last = Populate::done;
    };
    Brought bringStored(Worker& worker, PageNumber first, VmAddress address, std::size_t count);
    /// The mask of `block`'s pages that lie in one extent, and the address that page 0 of the block has (or
    /// would have) there.
    struct Piece {
        BlockMask mask;
        VmAddress base;
    };
    [[nodiscard]] std::vector<Piece> pieces(BlockNumber block) const;

    const Footprint& footprint_;
    StagingArea area_;
    AddressMap addresses_;
    Userfault& guest_;
    Userfault& drop_;
    const ProcessMemory& memory_;
    PageMap& pages_;
    EventJournal& journal_;
    ColdStore& store_;
    FrozenTier* frozen_;
    const GuestFiles* files_;
    Worker faultWorker_;
    Worker backgroundWorker_;
    PriorityMutex layout_;
    mutable std::array<PriorityMutex, shardCount> shards_;
    std::vector<Block> blocks_;
    Counters counters_;
    mutable std::mutex lostMutex_;
    std::string lostNote_;                   // under lostMutex_
    std::vector<BlockNumber> blocksToDrop_;  // background thread
    std::vector<OwnDrop> ownDrops_;          // changed by the background thread alone, under layout_
    std::atomic<bool> putOff_{false};        // a fault waits for the end of a drop
    std::size_t pagesToDrop_ = 0;
    std::uint32_t evictions_ = 0;
    std::atomic<std::uint64_t> leftoverPages_{0};
    std::atomic<std::uint64_t> copyBytes_{0};
    std::atomic<std::uint64_t> looseBlocks_{0};
    std::atomic<std::uint64_t> splitBlocks_{0};
    std::atomic<bool> keepCopies_{false};
    std::atomic<std::uint64_t> memoryBytes_{0};
    std::atomic<bool> registered_{false};
    std::atomic<BlockNumber> spare_{noBlock};   // that has a spare to offer, unless it was quicker to drop it
    std::atomic<std::uint64_t> sparePages_{0};  // offered or lent
    std::atomic<bool> spareWanted_{false};      // a stream takes blocks whole
    std::uint32_t spareSince_ = 0;              // background thread: deciseconds()
    std::vector<FrozenTier::Read> ahead_;       // fault thread: what readAhead() is to begin
    unsigned freshRefused_ =
        0;  ///< fault thread: no huge page could be had; how many faults until the next try
};

}  // namespace thermocline::memory
