// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which bytes of the file tier's file belong to which page. The file is cut into segments of 256 KiB; a
// segment is filled from its start, written once, and used again when its last record is gone. Knows numbers
// only: the file is the store's. Not thread-safe.
//
//   hole     takes no space in the file
//   open     being filled, in memory          hole, spent -> open
//   writing  full, being written              open -> writing
//   written  on the disk                      writing -> written
//   failed   could not be written             writing -> failed
//   spent    holds nothing any more, but still takes space: written, failed, open -> spent; spent -> hole

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "memory/page.h"

namespace thermocline::memory {

/// Where a record lies: offset in granules of 16 bytes, and how many bytes (1 to 4096) were put.
struct FrozenSlot {
    static constexpr unsigned offsetBits = 48;
    static constexpr unsigned lengthBits = 13;
    static constexpr std::uint64_t granuleBytes = 16;

    std::uint64_t granule = 0;
    std::uint32_t bytes = 0;

    [[nodiscard]] constexpr std::uint64_t offset() const { return granule * granuleBytes; }
    /// The slot as one number, and back.
    [[nodiscard]] constexpr std::uint64_t packed() const { return granule << lengthBits | bytes; }
    static constexpr FrozenSlot unpacked(std::uint64_t packed) {
        return {packed >> lengthBits, static_cast<std::uint32_t>(packed & ((1U << lengthBits) - 1))};
    }
    friend constexpr bool operator==(FrozenSlot, FrozenSlot) = default;
};
static_assert(FrozenSlot::offsetBits + FrozenSlot::lengthBits <= 61, "what a page entry has room for");
static_assert(pageBytes < 1U << FrozenSlot::lengthBits);

struct FrozenRecord {
    PageNumber page = 0;
    FrozenSlot slot;
    friend constexpr bool operator==(const FrozenRecord&, const FrozenRecord&) = default;
};

class FrozenSegments {
  public:
    static constexpr std::uint64_t segmentBytes = 256U << 10;
    static constexpr std::uint64_t sectorBytes = 4096;  ///< segments are written in multiples of this
    static constexpr std::uint64_t tagBytes = 16;       ///< that each record takes beyond its bytes
    static constexpr PageNumber maxPage = (PageNumber{1} << 44) - 1;
    enum class State : std::uint8_t { hole, open, writing, written, failed, spent };
    using Index = std::uint32_t;

    /// `maxBytes` bounds what the file takes.
    explicit FrozenSegments(std::uint64_t maxBytes) : maxBytes_(maxBytes) { buckets_.fill(none); }

    /// What a process left that is dead: `serials` of all segments, 0 where one was never filled. Which of
    /// their records are live is to be claimed, one by one; then endClaims(). REQUIRES: nothing else between.
    FrozenSegments(std::uint64_t maxBytes, std::span<const std::uint64_t> serials);
    /// False where that cannot be: out of bounds, or some of it is claimed already.
    bool claim(PageNumber page, FrozenSlot slot);
    /// All were claimed: what was not is free. Segments of `unwritten` are being written, if anything of them
    /// is live; the others are on the disk.
    void endClaims(std::span<const Index> unwritten);

    /// Begins to fill a segment; nothing where less than `reserve` bytes of the file's bound would be left.
    std::optional<Index> open(std::uint64_t reserve);
    [[nodiscard]] bool fits(Index segment, std::size_t bytes) const;
    /// REQUIRES: open, and the record fits. No two records of one filling (serial) share a place.
    FrozenSlot append(Index segment, PageNumber page, std::size_t bytes);
    /// Ends the filling. False where no record is live: the segment is spent and there is nothing to write.
    bool seal(Index segment);
    void written(Index segment);
    void failed(Index segment);
    /// A spent segment to give the file's space back for; to be ended by one of the two below.
    std::optional<Index> takeSpent();
    void becameHole(Index segment);
    void staysSpent(Index segment);

    /// Is that slot a live record of that page?
    [[nodiscard]] bool holds(PageNumber page, FrozenSlot slot) const;
    /// While a segment is pinned it is not used again, though its records may be released.
    void pin(Index segment) { ++segments_[segment].pins; }
    void unpin(Index segment);
    /// False where no live record is at that slot.
    bool release(FrozenSlot slot);

    /// One of the written segments with the fewest live bytes, where those are less than `sixteenths` of its
    /// space.
    [[nodiscard]] std::optional<Index> emptiest(unsigned sixteenths) const;
    /// Live records that compaction has not set aside, lowest first.
    [[nodiscard]] std::vector<FrozenRecord> liveRecords(Index segment) const;
    /// Compaction is done with that record: has copied it, or cannot read it. It stays live until it is
    /// released.
    void setAside(FrozenSlot slot);

    static constexpr Index segmentOf(FrozenSlot slot) {
        return static_cast<Index>(slot.offset() / segmentBytes);
    }
    static constexpr std::uint64_t offsetOf(Index segment) { return segment * segmentBytes; }
    static constexpr std::uint64_t recordBytes(std::size_t bytes) {
        return granules(bytes) * FrozenSlot::granuleBytes;
    }
    static constexpr std::uint64_t roundToSector(std::uint64_t bytes) {
        return (bytes + sectorBytes - 1) / sectorBytes * sectorBytes;
    }
    [[nodiscard]] State state(Index segment) const { return segments_[segment].state; }
    [[nodiscard]] std::uint64_t serial(Index segment) const { return segments_[segment].serial; }
    [[nodiscard]] std::uint64_t filledBytes(Index segment) const;  ///< from its start, up to its last record
    [[nodiscard]] std::uint64_t fileBytes() const { return fileBytes_; }          ///< that the file takes
    [[nodiscard]] std::uint64_t occupiedBytes() const { return occupiedBytes_; }  ///< of it, not spent
    [[nodiscard]] std::uint64_t liveBytes() const {
        return liveBytes_;
    }  ///< of live records, with their tags
    [[nodiscard]] std::uint64_t liveRecordCount() const { return liveRecords_; }
    [[nodiscard]] std::uint64_t metadataBytes() const;

  private:
    static constexpr Index none = UINT32_MAX;
    static constexpr std::uint8_t bucketCount = 16;
    struct Segment {
        std::uint64_t serial = 0;
        std::vector<std::uint64_t> records;  // Packed, in frozen_segments.cpp; by place
        std::uint32_t filled = 0;            // granules
        std::uint32_t live = 0;              // of them, of live records
        std::uint32_t aside = 0;             // of those, of records that compaction is done with
        std::uint32_t space = 0;             // bytes that it takes in the file
        std::uint32_t spaceBefore = 0;       // when its filling began
        std::uint32_t pins = 0;
        Index previous = none;  // in its bucket
        Index next = none;
        State state = State::hole;
        std::uint8_t bucket = bucketCount;  // by how full it is; bucketCount: in none
    };

    static constexpr std::uint64_t granules(std::size_t bytes) {
        return (bytes + tagBytes + FrozenSlot::granuleBytes - 1) / FrozenSlot::granuleBytes;
    }
    [[nodiscard]] const std::uint64_t* find(FrozenSlot slot) const;
    [[nodiscard]] FrozenSlot slotAt(Index segment, std::size_t record) const;
    void setSpace(Segment& segment, std::uint64_t bytes);
    void update(Index segment);
    void spend(Index segment);
    void moveToBucket(Index segment, std::uint8_t bucket);

    std::uint64_t maxBytes_;
    std::vector<Segment> segments_;
    std::vector<Index> spent_;
    std::vector<Index> holes_;
    std::array<Index, bucketCount> buckets_;
    std::uint64_t nextSerial_ = 1;
    std::uint64_t fileBytes_ = 0;
    std::uint64_t occupiedBytes_ = 0;
    std::uint64_t liveBytes_ = 0;
    std::uint64_t liveRecords_ = 0;
    std::uint64_t recordCapacity_ = 0;
};

}  // namespace thermocline::memory
