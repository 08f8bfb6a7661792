// SPDX-License-Identifier: Apache-2.0
#pragma once

// The file tier: pages that have been cold for long, compressed or raw, in one unnamed, encrypted file on a
// disk. docs/store-format.md describes the file. A record that put() has taken can be read at once and until
// it is released: from memory until its segment is on the disk, and again from memory where that could not be
// written. What get() and completions() give is what put() was given for that page and slot, or an error;
// never other bytes. Nothing waits for the disk but wait(), get(), compactOne(), killSwitch() and the end;
// poll() takes the time that the file system needs to free space.
//
// Thread-safe. Meant so: put, flush, poll, wait and compactOne by a background thread; submitRead and
// completions by the fault thread, which never waits for what the background thread does; release by either.
//
// No reader can meet a slot that was freed. REQUIRES: who looks up a page's slot calls submitRead() or get()
// before a lock is let go (the pager's block lock) under which that slot would be replaced and released. Then
// either the read came first, and pins the segment until it has ended: its bytes are not overwritten
// meanwhile, and the caller sees from the page's entry that they are no longer wanted. Or the release came
// first, and the look-up finds the new slot. Who breaks the rule gets an error: slots that are not live, and
// the records of an earlier filling, are refused.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/frozen_file.h"
#include "memory/frozen_segments.h"
#include "memory/page.h"

namespace thermocline::memory {

struct FrozenOptions {
    std::string directory;                      ///< on a disk
    std::uint64_t maxFileBytes = 0;             ///< what the file may take: at least 4 segments
    std::uint64_t maxBytesPerDay = UINT64_MAX;  ///< what may be written in any 24 hours
    double maxSpaceMultiple = 1.5;  ///< compact when the file takes more than this times what is live; >= 1.1
    std::size_t writesUnderWay =
        4;  ///< 1 to 64 segments of 256 KiB that wait for the disk; memory for one more
    std::size_t readsUnderWay = 64;  ///< 1 to 1024; memory of 32 KiB for each that there ever were at a time
    bool allowBuffered =
        false;             ///< through the page cache: for tests, it takes the memory that is to be saved
    std::string ledger{};  ///< file for what must outlive this process (frozen_ledger.h); empty: nothing does
    FrozenSeams seams;
};

class FrozenStore {
  public:
    /// No read of the disk serves more.
    static constexpr std::size_t mostRecordsInRead = 32;
    /// What a store cannot go on without, and another process is to keep open; it can neither write to the
    /// file with it nor make us fail.
    struct Kept {
        UniqueFd key;
        UniqueFd file;
    };
    /// A record that compaction has copied. For each, under the lock of the page's entry: where the entry
    /// still is `from`, make it `to` and release(from); else release(to).
    struct Move {
        PageNumber page = 0;
        FrozenSlot from;
        FrozenSlot to;
    };
    struct ReadDone {
        FrozenRecord record;
        bool alone = true;                         ///< else others were read with it: an error may be theirs
        Result<std::span<const std::byte>> bytes;  ///< valid during the call
    };
    struct Status {
        std::uint64_t liveRecords = 0;
        std::uint64_t liveBytes = 0;  ///< of their records, with tags
        std::uint64_t fileBytes = 0;  ///< that the file takes, or is about to
        std::uint64_t bytesWrittenInADay = 0;
        std::uint64_t damagedRecords = 0;  ///< that were refused so far
        std::uint64_t metadataBytes = 0;   ///< memory that all this takes, buffers included
        std::size_t writesUnderWay = 0;
        std::size_t failedSegments = 0;  ///< whose records are in memory only
    };

    /// An empty store. Error: invalidArgument for options out of range; notSupported where the directory is
    /// in memory or has no O_DIRECT; those of FrozenCipher and IoRing; systemError. Sets up io_uring: before
    /// a seccomp filter forbids it.
    static Result<std::unique_ptr<FrozenStore>> create(FrozenOptions options);
    /// The store of a process that is dead, from options.ledger and what was kept open. Every record that is
    /// still wanted has to be claimed, and then endClaims(), before anything else. Errors: notAttached where
    /// there is no ledger; notSupported where what was kept is not what it was; as create().
    static Result<std::unique_ptr<FrozenStore>> recover(FrozenOptions options, Kept kept);
    /// False where there can be no such record.
    bool claim(PageNumber page, FrozenSlot slot);
    /// What was not claimed is free; what the other one had not written is written.
    void endClaims();
    /// Copies of the descriptors. Error: notSupported where the key can only be here.
    [[nodiscard]] Result<Kept> toKeep() const;
    /// Its next process is to empty and end it.
    [[nodiscard]] bool closing() const;
    void setClosing();

    /// What is not on the disk goes there, or stays in the ledger.
    ~FrozenStore();
    FrozenStore(const FrozenStore&) = delete;
    FrozenStore& operator=(const FrozenStore&) = delete;

    /// Takes 1 to 4096 bytes of a page (below 2^44). Error: busy where all buffers wait for the disk (poll()
    /// or wait(), then again); outOfMemory where a budget is used up, which the message names, or the disk is
    /// full; systemError where the last writes failed: until the records of failedRecords() are released.
    Result<FrozenSlot> put(PageNumber page, std::span<const std::byte> bytes);
    /// Sends what was put to the disk, without waiting; what is less than a segment is rounded up to 4 KiB.
    /// Error: as put().
    Result<void> flush();
    /// Takes note of writes that have ended and gives back the space of empty segments. Error: the last
    /// write's, as long as failedRecords() has any.
    Result<void> poll();
    /// The same, after waiting until one write more has ended, where any is under way.
    Result<void> wait();
    /// Readable when poll() has something to do.
    [[nodiscard]] int writeEvent() const;
    /// Records that could not be written: to be read with get(), kept elsewhere and released.
    [[nodiscard]] std::vector<FrozenRecord> failedRecords() const;

    /// Starts one read of the disk, for the first of `records` and those of the next that lie behind it, one
    /// after the other and near enough; returns how many those are. REQUIRES: not empty. Error: busy where
    /// `readsUnderWay` are; systemError where the first is a slot that holds nothing of its page.
    Result<std::size_t> submitRead(std::span<const FrozenRecord> records);
    /// How many more reads may be started.
    [[nodiscard]] std::size_t freeReads() const;
    /// Calls `visit` for each record whose read has ended, and returns how many. A record that was changed,
    /// or that cannot be read, is a systemError. `visit` may call anything of this class but completions().
    std::size_t completions(const std::function<void(const ReadDone&)>& visit);
    /// Readable when completions() has something to give.
    [[nodiscard]] int readEvent() const;
    /// Reads a record and waits for it. The bytes are at the start of `into`, which has room for
    /// `slot.bytes`.
    Result<std::span<const std::byte>> get(PageNumber page, FrozenSlot slot, std::span<std::byte> into);
    /// REQUIRES: a live slot. After the kill switch nothing happens.
    void release(FrozenSlot slot);

    /// Copies the live records of one of the emptiest segments, where the file takes more than its multiple
    /// (and 1 MiB), or its budget leaves put() no segment more. Empty: there is nothing to gain. Once all
    /// moves are settled the old segment is used again. Error: as put(); a record that cannot be read is
    /// skipped, counted and left where it is.
    Result<std::vector<Move>> compactOne();

    /// Overwrites the key, then empties the file. From its start no record can be read, and all else is the
    /// error notSupported "the file tier was switched off". Error: systemError where the file could not be
    /// emptied.
    Result<void> killSwitch();
    [[nodiscard]] Status status() const;

  private:
    class Impl;
    explicit FrozenStore(std::unique_ptr<Impl> impl);

    std::unique_ptr<Impl> impl_;
};

}  // namespace thermocline::memory
