// SPDX-License-Identifier: Apache-2.0

// The file tier's store: what is live moves out of segments that are nearly empty.

#include <array>
#include <utility>

#include "memory/frozen_store_impl.h"

namespace thermocline::memory {
namespace {

constexpr auto segmentBytes = FrozenSegments::segmentBytes;
/// Beyond its multiple, the file may take this much before it is compacted: what is open and being written.
constexpr std::uint64_t spaceSlack = 4 * segmentBytes;

}  // namespace

Result<std::vector<FrozenStore::Move>> FrozenStore::Impl::compactOne() {
    const std::lock_guard lock(writer_);
    Index from = none;
    std::uint64_t serial = 0;
    std::vector<FrozenRecord> records;
    {
        const std::lock_guard stateLock(state_);
        THERMOCLINE_TRY(writable());
        const auto bound = options_.maxSpaceMultiple * static_cast<double>(segments_.liveBytes()) +
                           static_cast<double>(spaceSlack);
        const bool tooLarge = static_cast<double>(segments_.occupiedBytes()) > bound;
        const bool noRoom = segments_.fileBytes() + 2 * segmentBytes > options_.maxFileBytes;
        // Rewriting what is nearly full costs many writes for little room: never, or only where it is asked
        // for.
        const auto emptiest = segments_.emptiest(tooLarge ? 15 : noRoom ? 12 : 0);
        if (!emptiest) return std::vector<Move>{};
        from = *emptiest;
        serial = segments_.serial(from);
        records = segments_.liveRecords(from);
        segments_.pin(from);
    }
    Result<void> outcome;
    auto moves = copy(serial, records, outcome);
    {
        const std::lock_guard stateLock(state_);
        for (const auto& move : moves)
            segments_.setAside(move.from);
        if (!dropped_) segments_.unpin(from);
    }
    // What was copied has to reach the caller; what stopped us will stop us again.
    if (moves.empty() && !outcome) return tl::unexpected(outcome.error());
    return moves;
}

std::vector<FrozenStore::Move> FrozenStore::Impl::copy(std::uint64_t serial,
                                                       const std::vector<FrozenRecord>& records,
                                                       Result<void>& outcome) {
    // One read of all that is wanted: on a disk far cheaper than one for each record.
    const auto begin = firstSector(records.front().slot);
    const auto length = FrozenSegments::roundToSector(endFrom(begin, records.back().slot));
    const auto sectors = allocate(length);
    outcome = file_->read(begin, {sectors.get(), length});
    std::vector<Move> moves;
    if (!outcome) return moves;
    std::array<std::byte, pageBytes> plain;
    for (const auto& [page, slot] : records) {
        const FrozenIdentity identity{page, slot.granule, serial};
        const std::span<std::byte> bytes(plain.data(), slot.bytes);
        if (auto opened = unseal(identity, slot, sectors.get() + (slot.offset() - begin), bytes); !opened) {
            outcome = std::move(opened);
            const std::lock_guard lock(state_);
            segments_.setAside(slot);
            continue;
        }
        auto to = append(page, bytes, 0);
        if (!to) {
            outcome = tl::unexpected(to.error());
            break;
        }
        moves.push_back({page, slot, *to});
    }
    return moves;
}

}  // namespace thermocline::memory
