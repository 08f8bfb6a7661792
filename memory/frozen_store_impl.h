// SPDX-License-Identifier: Apache-2.0
#pragma once

// What is behind FrozenStore (frozen_store.h), for frozen_store*.cpp alone: writing, reading and compaction
// have files of their own. Locks are said at the members.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "memory/frozen_cipher.h"
#include "memory/frozen_ledger.h"
#include "memory/frozen_store.h"
#include "memory/io_ring.h"

namespace thermocline::memory {

// Where a record's bytes are in the file, in sectors, as O_DIRECT reads them.

/// Every record fits into two sectors: its place is a multiple of 16, and 4096 + 16 bytes from there end
/// before the third.
inline constexpr std::size_t maxRecordSectors = 2 * FrozenSegments::sectorBytes;
static_assert(FrozenSegments::sectorBytes - FrozenSlot::granuleBytes + pageBytes + FrozenCipher::tagBytes <=
              maxRecordSectors);
/// What is read at once: a disk takes hardly longer for it than for one record, and the calls and interrupts
/// are shared by some 20.
inline constexpr std::size_t maxReadBytes = 8 * FrozenSegments::sectorBytes;
static_assert(FrozenSegments::tagBytes == FrozenCipher::tagBytes);

inline std::uint64_t firstSector(FrozenSlot slot) {
    return slot.offset() / FrozenSegments::sectorBytes * FrozenSegments::sectorBytes;
}
inline std::size_t sealedBytes(FrozenSlot slot) {
    return slot.bytes + FrozenCipher::tagBytes;
}
/// Where the sealed record ends, counted from `start`, where a read begins.
inline std::size_t endFrom(std::uint64_t start, FrozenSlot slot) {
    return slot.offset() - start + sealedBytes(slot);
}

class FrozenStore::Impl {
  public:
    Impl(FrozenOptions options, std::unique_ptr<FrozenFile> file, std::unique_ptr<FrozenCipher> cipher,
         std::unique_ptr<FrozenLedger> ledger, std::unique_ptr<IoRing> writes, std::unique_ptr<IoRing> reads);
    static Result<std::unique_ptr<Impl>> make(FrozenOptions options, Result<std::unique_ptr<FrozenFile>> file,
                                              Result<FrozenKey> key, std::unique_ptr<FrozenLedger> ledger);

    bool claim(PageNumber page, FrozenSlot slot);
    void endClaims();
    [[nodiscard]] Result<Kept> toKeep() const;
    [[nodiscard]] bool closing() const;
    void setClosing();
    Result<FrozenSlot> put(PageNumber page, std::span<const std::byte> bytes);
    Result<void> flush();
    Result<void> poll();
    Result<void> wait();
    [[nodiscard]] int writeEvent() const { return writes_->event(); }
    [[nodiscard]] std::vector<FrozenRecord> failedRecords() const;
    Result<std::size_t> submitRead(std::span<const FrozenRecord> records);
    [[nodiscard]] std::size_t freeReads() const;
    std::size_t completions(const std::function<void(const ReadDone&)>& visit);
    [[nodiscard]] int readEvent() const { return reads_->event(); }
    Result<std::span<const std::byte>> get(PageNumber page, FrozenSlot slot, std::span<std::byte> into);
    void release(FrozenSlot slot);
    Result<std::vector<Move>> compactOne();
    Result<void> killSwitch();
    [[nodiscard]] Status status() const;

  private:
    using Index = FrozenSegments::Index;
    static constexpr Index none = UINT32_MAX;
    struct FreeBytes {
        void operator()(std::byte* bytes) const { std::free(bytes); }
    };
    using Bytes = std::unique_ptr<std::byte, FreeBytes>;  // aligned to sectors
    /// Holds a segment while it is open, writing or failed. In the ledger, so that it outlives us.
    struct Buffer {
        std::byte* bytes = nullptr;
        Index segment = none;
        bool failed = false;
        std::uint64_t sent = 0;  // bytes that are on the disk
    };
    /// One read of the disk: sectors of one segment, and the records that are wanted of them.
    struct Read {
        struct Part {
            FrozenRecord record;
            FrozenIdentity identity;
        };
        std::byte* bytes = nullptr;
        std::uint64_t start = 0;  // in the file
        std::size_t length = 0;
        std::vector<Part> parts;
        int result = 0;
    };

    static Bytes allocate(std::size_t bytes);

    // REQUIRES: writer_.
    Result<FrozenSlot> append(PageNumber page, std::span<const std::byte> bytes, std::uint64_t reserve);
    Result<void> openSegment(std::uint64_t reserve);
    Result<void> sealSegment();
    Result<void> send(std::size_t buffer);
    void finishWrite(const IoRing::Done& done);
    void collectWrites();
    void giveBackSpace();
    std::size_t freeBuffer() const;
    std::vector<Move> copy(std::uint64_t serial, const std::vector<FrozenRecord>& records,
                           Result<void>& outcome);

    // REQUIRES: state_.
    [[nodiscard]] Result<void> writable() const;
    void letGo(Buffer& buffer);
    void keepInMemory(Buffer& buffer, Error why);
    [[nodiscard]] Result<FrozenIdentity> identify(const FrozenRecord& record) const;
    /// The segment's bytes where they are not on the disk yet, else nullptr.
    [[nodiscard]] const std::byte* inMemory(Index segment) const;
    void gather(Read& read, std::span<const FrozenRecord> records, FrozenIdentity first) const;

    Result<void> unseal(const FrozenIdentity& identity, FrozenSlot slot, const std::byte* sealed,
                        std::span<std::byte> into) const;

    const FrozenOptions options_;
    std::unique_ptr<FrozenFile> file_;
    std::unique_ptr<FrozenCipher> cipher_;
    std::unique_ptr<FrozenLedger> ledger_;
    mutable std::atomic<std::uint64_t> damaged_{0};

    // Locks in this order; state_ is held for microseconds only, never over I/O or encryption.
    // writer_ guards writes_, open_, Buffer::sent, the file's size, and what no record of the open segment
    // has yet. reader_ guards reads_, idle_, ready_ and most_. state_ guards the five members that follow it,
    // and ledger_.
    std::mutex writer_;
    mutable std::mutex reader_;
    mutable std::mutex state_;
    FrozenSegments segments_;
    std::vector<Buffer> buffers_;
    std::size_t failedSegments_ = 0;
    Error failure_;         // while failedSegments_ > 0
    bool dropped_ = false;  // by the kill switch

    std::size_t open_;  // the buffer of the open segment; buffers_.size(): none is open
    Bytes readBytes_;   // of all read slots; takes memory where it was used
    std::vector<Read> readSlots_;
    std::vector<std::size_t> idle_;   // of them; the lowest last, so that few are ever used
    std::vector<std::size_t> ready_;  // of them: have their bytes already
    std::size_t most_ = 0;            // of them that were ever used at a time
    std::unique_ptr<IoRing> writes_;  // last: they end first, and wait for what uses the buffers
    std::unique_ptr<IoRing> reads_;
};

}  // namespace thermocline::memory
