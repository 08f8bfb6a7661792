// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_segments.h"

#include <algorithm>
#include <cassert>

namespace thermocline::memory {
namespace {

/// A record in 8 bytes, since there is one for each page on the disk: page, place in its segment, how much of
/// its last granule is used, and two flags. Its length follows from where the next one begins.
struct Packed {
    static constexpr unsigned placeShift = 6;
    static constexpr unsigned tailShift = 2;
    static constexpr unsigned pageShift = 20;
    static constexpr std::uint64_t asideFlag = 2;
    static constexpr std::uint64_t liveFlag = 1;
    static constexpr std::uint64_t granulesPerSegment =
        FrozenSegments::segmentBytes / FrozenSlot::granuleBytes;
    static_assert(granulesPerSegment <= 1U << (pageShift - placeShift));

    static constexpr std::uint64_t make(PageNumber page, std::uint64_t place, std::size_t bytes) {
        return page << pageShift | place << placeShift | (bytes % FrozenSlot::granuleBytes) << tailShift |
               liveFlag;
    }
    static constexpr PageNumber page(std::uint64_t record) { return record >> pageShift; }
    static constexpr std::uint64_t place(std::uint64_t record) {
        return record >> placeShift & ((1U << (pageShift - placeShift)) - 1);
    }
    static constexpr std::uint64_t tail(std::uint64_t record) {
        return record >> tailShift & ((1U << (placeShift - tailShift)) - 1);
    }
    static constexpr bool live(std::uint64_t record) { return (record & liveFlag) != 0; }
    static constexpr bool aside(std::uint64_t record) { return (record & asideFlag) != 0; }
    /// What nobody has claimed, up to where the next one begins.
    static constexpr std::uint64_t gap(std::uint64_t place) { return place << placeShift; }
};

}  // namespace

FrozenSegments::FrozenSegments(std::uint64_t maxBytes, std::span<const std::uint64_t> serials)
    : FrozenSegments(maxBytes) {
    segments_.resize(serials.size());
    for (std::size_t i = 0; i < serials.size(); ++i) {
        auto& segment = segments_[i];
        segment.serial = serials[i];
        nextSerial_ = std::max(nextSerial_, serials[i] + 1);
        if (segment.serial == 0) continue;
        segment.records = {Packed::gap(0)};
        segment.filled = Packed::granulesPerSegment;
    }
}

/// A segment's records cover it without gaps: a record is cut out of what nobody has claimed, and leaves the
/// rest before and behind it.
bool FrozenSegments::claim(PageNumber page, FrozenSlot slot) {
    const auto segmentNumber = slot.offset() / segmentBytes;
    if (segmentNumber >= segments_.size() || slot.bytes == 0 || slot.bytes > pageBytes || page > maxPage)
        return false;
    auto& segment = segments_[segmentNumber];
    const auto place = slot.granule % Packed::granulesPerSegment;
    const auto end = place + granules(slot.bytes);
    auto& records = segment.records;
    auto at = std::ranges::upper_bound(records, place, {}, Packed::place);
    if (at == records.begin()) return false;  // never filled
    const auto next = at == records.end() ? segment.filled : Packed::place(*at);
    --at;
    if (Packed::live(*at) || end > next) return false;
    const auto begin = Packed::place(*at);
    *at = Packed::make(page, place, slot.bytes);
    if (end < next) at = records.insert(at + 1, Packed::gap(end)) - 1;
    if (begin < place) records.insert(at, Packed::gap(begin));
    segment.live += static_cast<std::uint32_t>(end - place);
    liveBytes_ += recordBytes(slot.bytes);
    ++liveRecords_;
    return true;
}

void FrozenSegments::endClaims(std::span<const Index> unwritten) {
    for (Index index = 0; index < segments_.size(); ++index) {
        auto& segment = segments_[index];
        if (segment.serial == 0) {
            holes_.push_back(index);
            continue;
        }
        // How much of it was written once is not known; what is spent is given back soon.
        setSpace(segment, segmentBytes);
        occupiedBytes_ += segment.space;
        if (segment.live == 0) {
            segment.records = {};
            spend(index);
            continue;
        }
        if (!Packed::live(segment.records.back())) {
            segment.filled = static_cast<std::uint32_t>(Packed::place(segment.records.back()));
            segment.records.pop_back();
        }
        segment.records.shrink_to_fit();
        recordCapacity_ += segment.records.capacity();
        segment.state =
            std::ranges::find(unwritten, index) != unwritten.end() ? State::writing : State::written;
        update(index);
    }
}

std::optional<FrozenSegments::Index> FrozenSegments::open(std::uint64_t reserve) {
    // A spent one first: it has its space already.
    const bool reuse = !spent_.empty();
    const std::uint64_t more = segmentBytes - (reuse ? segments_[spent_.back()].space : 0);
    if (fileBytes_ + more + reserve > maxBytes_) return std::nullopt;
    Index index = 0;
    if (auto& from = reuse ? spent_ : holes_; !from.empty()) {
        index = from.back();
        from.pop_back();
    } else {
        index = static_cast<Index>(segments_.size());
        segments_.emplace_back();
    }
    auto& segment = segments_[index];
    segment.serial = nextSerial_++;
    segment.filled = 0;
    // Counted as full while it is open, so that filling it can never meet the bound.
    segment.spaceBefore = segment.space;
    setSpace(segment, segmentBytes);
    segment.state = State::open;
    occupiedBytes_ += segment.space;
    return index;
}

bool FrozenSegments::fits(Index index, std::size_t bytes) const {
    return segments_[index].filled + granules(bytes) <= Packed::granulesPerSegment;
}

FrozenSlot FrozenSegments::append(Index index, PageNumber page, std::size_t bytes) {
    auto& segment = segments_[index];
    assert(segment.state == State::open && fits(index, bytes) && page <= maxPage);
    const auto capacity = segment.records.capacity();
    segment.records.push_back(Packed::make(page, segment.filled, bytes));
    recordCapacity_ += segment.records.capacity() - capacity;
    const FrozenSlot slot{index * Packed::granulesPerSegment + segment.filled,
                          static_cast<std::uint32_t>(bytes)};
    const auto count = static_cast<std::uint32_t>(granules(bytes));
    segment.filled += count;
    segment.live += count;
    liveBytes_ += recordBytes(bytes);
    ++liveRecords_;
    return slot;
}

bool FrozenSegments::seal(Index index) {
    auto& segment = segments_[index];
    assert(segment.state == State::open);
    const bool worthWriting = segment.live != 0;
    occupiedBytes_ -= segment.space;
    setSpace(segment, std::max<std::uint64_t>(segment.spaceBefore,
                                              worthWriting ? roundToSector(filledBytes(index)) : 0));
    occupiedBytes_ += segment.space;
    if (!worthWriting) {
        spend(index);
        return false;
    }
    recordCapacity_ -= segment.records.capacity();
    segment.records.shrink_to_fit();
    recordCapacity_ += segment.records.capacity();
    segment.state = State::writing;
    return true;
}

void FrozenSegments::written(Index index) {
    segments_[index].state = State::written;
    update(index);
}

void FrozenSegments::failed(Index index) {
    segments_[index].state = State::failed;
    update(index);
}

std::optional<FrozenSegments::Index> FrozenSegments::takeSpent() {
    if (spent_.empty()) return std::nullopt;
    const auto index = spent_.back();
    spent_.pop_back();
    return index;
}

void FrozenSegments::becameHole(Index index) {
    setSpace(segments_[index], 0);
    segments_[index].state = State::hole;
    holes_.push_back(index);
}

void FrozenSegments::staysSpent(Index index) {
    spent_.push_back(index);
}

bool FrozenSegments::holds(PageNumber page, FrozenSlot slot) const {
    const auto* record = find(slot);
    return record != nullptr && Packed::page(*record) == page;
}

void FrozenSegments::unpin(Index index) {
    assert(segments_[index].pins > 0);
    --segments_[index].pins;
    update(index);
}

bool FrozenSegments::release(FrozenSlot slot) {
    auto* record = const_cast<std::uint64_t*>(find(slot));
    if (record == nullptr) return false;
    const auto index = segmentOf(slot);
    auto& segment = segments_[index];
    const auto count = static_cast<std::uint32_t>(granules(slot.bytes));
    segment.live -= count;
    if (Packed::aside(*record)) segment.aside -= count;
    *record &= ~(Packed::liveFlag | Packed::asideFlag);
    liveBytes_ -= recordBytes(slot.bytes);
    --liveRecords_;
    update(index);
    return true;
}

std::optional<FrozenSegments::Index> FrozenSegments::emptiest(unsigned sixteenths) const {
    static_assert(bucketCount == 16);
    for (unsigned bucket = 0; bucket < std::min<unsigned>(sixteenths, bucketCount); ++bucket)
        if (buckets_[bucket] != none) return buckets_[bucket];
    return std::nullopt;
}

std::vector<FrozenRecord> FrozenSegments::liveRecords(Index index) const {
    const auto& records = segments_[index].records;
    std::vector<FrozenRecord> live;
    for (std::size_t i = 0; i < records.size(); ++i)
        if (Packed::live(records[i]) && !Packed::aside(records[i]))
            live.push_back({Packed::page(records[i]), slotAt(index, i)});
    return live;
}

void FrozenSegments::setAside(FrozenSlot slot) {
    auto* record = const_cast<std::uint64_t*>(find(slot));
    if (record == nullptr || Packed::aside(*record)) return;
    *record |= Packed::asideFlag;
    segments_[segmentOf(slot)].aside += static_cast<std::uint32_t>(granules(slot.bytes));
    update(segmentOf(slot));
}

std::uint64_t FrozenSegments::filledBytes(Index index) const {
    return segments_[index].filled * FrozenSlot::granuleBytes;
}

std::uint64_t FrozenSegments::metadataBytes() const {
    return segments_.capacity() * sizeof(Segment) + recordCapacity_ * sizeof(std::uint64_t) +
           (spent_.capacity() + holes_.capacity()) * sizeof(Index);
}

/// The live record at exactly that slot.
const std::uint64_t* FrozenSegments::find(FrozenSlot slot) const {
    const auto segmentNumber = slot.offset() / segmentBytes;
    if (segmentNumber >= segments_.size()) return nullptr;
    const auto index = static_cast<Index>(segmentNumber);
    const auto& records = segments_[index].records;
    const auto at =
        std::ranges::lower_bound(records, slot.granule % Packed::granulesPerSegment, {}, Packed::place);
    if (at == records.end() || !Packed::live(*at)) return nullptr;
    return slotAt(index, static_cast<std::size_t>(at - records.begin())) == slot ? &*at : nullptr;
}

FrozenSlot FrozenSegments::slotAt(Index index, std::size_t record) const {
    const auto& segment = segments_[index];
    const auto place = Packed::place(segment.records[record]);
    const auto end =
        record + 1 < segment.records.size() ? Packed::place(segment.records[record + 1]) : segment.filled;
    auto bytes = (end - place) * FrozenSlot::granuleBytes - tagBytes;
    if (const auto tail = Packed::tail(segment.records[record]); tail != 0)
        bytes -= FrozenSlot::granuleBytes - tail;
    return {index * Packed::granulesPerSegment + place, static_cast<std::uint32_t>(bytes)};
}

void FrozenSegments::setSpace(Segment& segment, std::uint64_t bytes) {
    fileBytes_ += bytes - segment.space;
    segment.space = static_cast<std::uint32_t>(bytes);
}

/// After the records, pins or state of a segment have changed.
void FrozenSegments::update(Index index) {
    auto& segment = segments_[index];
    const bool atRest = segment.state == State::written || segment.state == State::failed;
    if (atRest && segment.live == 0 && segment.pins == 0) {
        spend(index);
    } else if (segment.state == State::written && segment.live > segment.aside) {
        const auto movable = (segment.live - segment.aside) * FrozenSlot::granuleBytes;
        moveToBucket(index, static_cast<std::uint8_t>(std::min<std::uint64_t>(
                                movable * bucketCount / segment.space, bucketCount - 1)));
    } else {
        moveToBucket(index, bucketCount);
    }
}

void FrozenSegments::spend(Index index) {
    auto& segment = segments_[index];
    moveToBucket(index, bucketCount);
    recordCapacity_ -= segment.records.capacity();
    segment.records = {};
    occupiedBytes_ -= segment.space;
    segment.state = segment.space == 0 ? State::hole : State::spent;
    (segment.space == 0 ? holes_ : spent_).push_back(index);
}

void FrozenSegments::moveToBucket(Index index, std::uint8_t bucket) {
    auto& segment = segments_[index];
    if (segment.bucket == bucket) return;
    if (segment.bucket != bucketCount) {
        (segment.previous != none ? segments_[segment.previous].next : buckets_[segment.bucket]) =
            segment.next;
        if (segment.next != none) segments_[segment.next].previous = segment.previous;
        segment.previous = segment.next = none;
    }
    segment.bucket = bucket;
    if (bucket == bucketCount) return;
    segment.next = buckets_[bucket];
    if (segment.next != none) segments_[segment.next].previous = index;
    buckets_[bucket] = index;
}

}  // namespace thermocline::memory
