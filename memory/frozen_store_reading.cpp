// SPDX-License-Identifier: Apache-2.0

// The file tier's store: records are read, and given up.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "memory/frozen_store_impl.h"

namespace thermocline::memory {
namespace {

constexpr auto segmentBytes = FrozenSegments::segmentBytes;
constexpr auto sectorBytes = FrozenSegments::sectorBytes;

}  // namespace

Result<FrozenIdentity> FrozenStore::Impl::identify(const FrozenRecord& record) const {
    if (cipher_->wiped()) return failSwitchedOff();
    const auto& [page, slot] = record;
    if (!segments_.holds(page, slot))
        return fail(ErrorCode::systemError, fmt::format("{}: {} bytes at {} are not a record of page {}",
                                                        file_->name(), slot.bytes, slot.offset(), page));
    return FrozenIdentity{page, slot.granule, segments_.serial(FrozenSegments::segmentOf(slot))};
}

const std::byte* FrozenStore::Impl::inMemory(Index segment) const {
    const auto buffer = std::ranges::find(buffers_, segment, &Buffer::segment);
    return buffer != buffers_.end() ? buffer->bytes : nullptr;
}

void FrozenStore::Impl::gather(Read& read, std::span<const FrozenRecord> records,
                               FrozenIdentity first) const {
    read.start = firstSector(records.front().slot);
    read.parts.assign(1, {records.front(), first});
    for (const auto& record : records.subspan(1)) {
        const auto last = read.parts.back().record.slot;
        if (read.parts.size() == mostRecordsInRead || record.slot.granule <= last.granule ||
            FrozenSegments::segmentOf(record.slot) != FrozenSegments::segmentOf(last) ||
            endFrom(read.start, record.slot) > maxReadBytes)
            break;
        const auto identity = identify(record);
        if (!identity) break;  // whoever asks for it alone hears why
        read.parts.push_back({record, *identity});
    }
    read.length = FrozenSegments::roundToSector(endFrom(read.start, read.parts.back().record.slot));
}

Result<std::size_t> FrozenStore::Impl::submitRead(std::span<const FrozenRecord> records) {
    const std::lock_guard lock(reader_);
    if (idle_.empty())
        return fail(ErrorCode::busy,
                    fmt::format("{} reads of {} are under way", readSlots_.size(), file_->name()));
    const auto index = idle_.back();
    auto& read = readSlots_[index];
    const auto segment = FrozenSegments::segmentOf(records.front().slot);
    const auto started = [&] {
        idle_.pop_back();
        most_ = std::max(most_, index + 1);
        return read.parts.size();
    };
    {
        const std::lock_guard stateLock(state_);
        const auto first = identify(records.front());
        if (!first) return tl::unexpected(first.error());
        gather(read, records, *first);
        if (const auto* bytes = inMemory(segment)) {
            for (const auto& part : read.parts) {
                const auto slot = part.record.slot;
                std::memcpy(read.bytes + (slot.offset() - read.start), bytes + slot.offset() % segmentBytes,
                            sealedBytes(slot));
            }
            read.result = static_cast<int>(read.length);
            ready_.push_back(index);
            reads_->raiseEvent();
            return started();
        }
        segments_.pin(segment);
    }
    auto submitted = reads_->read(file_->descriptor(), {read.bytes, read.length}, read.start, index);
    if (submitted) return started();
    const std::lock_guard stateLock(state_);
    if (!dropped_) segments_.unpin(segment);
    return fail(submitted.error().code,
                fmt::format("reading {}: {}", file_->name(), submitted.error().message));
}

std::size_t FrozenStore::Impl::freeReads() const {
    const std::lock_guard lock(reader_);
    return idle_.size();
}

std::size_t FrozenStore::Impl::completions(const std::function<void(const ReadDone&)>& visit) {
    {
        const std::lock_guard lock(reader_);
        reads_->clearEvent();
    }
    std::size_t count = 0;
    for (;;) {
        std::size_t index = 0;
        {
            const std::lock_guard lock(reader_);
            if (!ready_.empty()) {
                index = ready_.back();
                ready_.pop_back();
            } else if (const auto done = reads_->next()) {
                index = static_cast<std::size_t>(done->token);
                auto& read = readSlots_[index];
                read.result = file_->seen(false, read.start, done->result);
                const std::lock_guard stateLock(state_);
                if (!dropped_) segments_.unpin(FrozenSegments::segmentOf(read.parts.front().record.slot));
            } else {
                return count;
            }
        }
        // Outside the locks: decrypting, and whatever the caller does with the bytes.
        const auto& read = readSlots_[index];
        for (const auto& [record, identity] : read.parts) {
            const auto& [page, slot] = record;
            std::array<std::byte, pageBytes> plain;
            const std::span<std::byte> bytes(plain.data(), slot.bytes);
            Result<void> outcome;
            if (cipher_->wiped())
                outcome = failSwitchedOff();
            else if (read.result < 0)
                outcome =
                    failErrno(fmt::format("{}: reading page {} at {}", file_->name(), page, slot.offset()),
                              -read.result);
            else if (static_cast<std::size_t>(read.result) < endFrom(read.start, slot))
                outcome =
                    fail(ErrorCode::systemError, fmt::format("{} ends within the record of page {} at {}",
                                                             file_->name(), page, slot.offset()));
            else
                outcome = unseal(identity, slot, read.bytes + (slot.offset() - read.start), bytes);
            ReadDone done{record, read.parts.size() == 1, std::span<const std::byte>(bytes)};
            if (!outcome) done.bytes = tl::unexpected(outcome.error());
            visit(done);
            ++count;
        }
        const std::lock_guard lock(reader_);
        idle_.push_back(index);
    }
}

Result<std::span<const std::byte>> FrozenStore::Impl::get(PageNumber page, FrozenSlot slot,
                                                          std::span<std::byte> into) {
    if (into.size() < slot.bytes || slot.bytes > pageBytes)
        return fail(ErrorCode::invalidArgument,
                    fmt::format("file tier: a record of {} bytes, and room for {}", slot.bytes, into.size()));
    alignas(sectorBytes) std::array<std::byte, maxRecordSectors> sectors;
    const auto segment = FrozenSegments::segmentOf(slot);
    const auto start = firstSector(slot);
    auto* const sealed = sectors.data() + (slot.offset() - start);
    FrozenIdentity identity;
    bool onDisk = false;
    {
        const std::lock_guard lock(state_);
        const auto found = identify({page, slot});
        if (!found) return tl::unexpected(found.error());
        identity = *found;
        if (const auto* bytes = inMemory(segment))
            std::memcpy(sealed, bytes + slot.offset() % segmentBytes, sealedBytes(slot));
        else
            onDisk = true;
        if (onDisk) segments_.pin(segment);
    }
    if (onDisk) {
        const auto read =
            file_->read(start, {sectors.data(), FrozenSegments::roundToSector(endFrom(start, slot))});
        {
            const std::lock_guard lock(state_);
            if (!dropped_) segments_.unpin(segment);
        }
        if (cipher_->wiped()) return failSwitchedOff();
        if (!read)
            return fail(read.error().code,
                        fmt::format("page {} at {}: {}", page, slot.offset(), read.error().message));
    }
    const auto bytes = into.first(slot.bytes);
    const auto unsealed = unseal(identity, slot, sealed, bytes);
    if (!unsealed) return tl::unexpected(unsealed.error());
    return bytes;
}

Result<void> FrozenStore::Impl::unseal(const FrozenIdentity& identity, FrozenSlot slot,
                                       const std::byte* sealed, std::span<std::byte> into) const {
    auto opened = cipher_->open(identity, {sealed, sealedBytes(slot)}, into);
    if (opened) return {};
    if (opened.error().code == ErrorCode::notSupported) return opened;
    damaged_.fetch_add(1, std::memory_order_relaxed);
    return fail(opened.error().code, fmt::format("{}: page {} at {}: {}", file_->name(), identity.page,
                                                 slot.offset(), opened.error().message));
}

void FrozenStore::Impl::release(FrozenSlot slot) {
    const std::lock_guard lock(state_);
    if (dropped_ || cipher_->wiped()) return;
    const bool wasLive = segments_.release(slot);
    assert(wasLive && "a slot was released twice");
    if (!wasLive || failedSegments_ == 0) return;
    // The last record of a segment that could not be written: nobody needs its buffer any more.
    const auto segment = FrozenSegments::segmentOf(slot);
    const auto buffer = std::ranges::find(buffers_, segment, &Buffer::segment);
    if (buffer != buffers_.end() && buffer->failed &&
        segments_.state(segment) != FrozenSegments::State::failed)
        letGo(*buffer);
}

}  // namespace thermocline::memory
