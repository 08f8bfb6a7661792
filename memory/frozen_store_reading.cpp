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

Result<bool> FrozenStore::Impl::locate(PageNumber page, FrozenSlot slot, std::byte* sectors,
                                       FrozenIdentity& identity) {
    if (cipher_->wiped()) return failSwitchedOff();
    if (!segments_.holds(page, slot))
        return fail(ErrorCode::systemError, fmt::format("{}: {} bytes at {} are not a record of page {}",
                                                        file_->name(), slot.bytes, slot.offset(), page));
    const auto segment = FrozenSegments::segmentOf(slot);
    identity = {page, slot.granule, segments_.serial(segment)};
    if (const auto buffer = std::ranges::find(buffers_, segment, &Buffer::segment);
        buffer != buffers_.end()) {
        std::memcpy(sectors + slot.offset() % sectorBytes, buffer->bytes + slot.offset() % segmentBytes,
                    sealedBytes(slot));
        return true;
    }
    segments_.pin(segment);
    return false;
}

Result<void> FrozenStore::Impl::submitRead(PageNumber page, FrozenSlot slot, std::uint64_t token) {
    const std::lock_guard lock(reader_);
    if (idle_.empty())
        return fail(ErrorCode::busy,
                    fmt::format("{} reads of {} are under way", readSlots_.size(), file_->name()));
    const auto index = idle_.back();
    auto& read = readSlots_[index];
    read.token = token;
    read.record = {page, slot};
    {
        const std::lock_guard stateLock(state_);
        const auto inMemory = locate(page, slot, read.bytes.get(), read.identity);
        if (!inMemory) return tl::unexpected(inMemory.error());
        if (*inMemory) {
            idle_.pop_back();
            read.result = static_cast<int>(sectorsOf(slot));
            ready_.push_back(index);
            reads_->raiseEvent();
            return {};
        }
    }
    auto submitted =
        reads_->read(file_->descriptor(), {read.bytes.get(), sectorsOf(slot)}, firstSector(slot), index);
    if (submitted) {
        idle_.pop_back();
        return {};
    }
    const std::lock_guard stateLock(state_);
    if (!dropped_) segments_.unpin(FrozenSegments::segmentOf(slot));
    return fail(submitted.error().code,
                fmt::format("reading {}: {}", file_->name(), submitted.error().message));
}

std::size_t FrozenStore::Impl::completions(const std::function<void(const ReadDone&)>& visit) {
    {
        const std::lock_guard lock(reader_);
        reads_->clearEvent();
    }
    for (std::size_t count = 0;; ++count) {
        std::size_t index = 0;
        {
            const std::lock_guard lock(reader_);
            if (!ready_.empty()) {
                index = ready_.back();
                ready_.pop_back();
            } else if (const auto done = reads_->next()) {
                index = static_cast<std::size_t>(done->token);
                auto& read = readSlots_[index];
                read.result = file_->seen(false, firstSector(read.record.slot), done->result);
                const std::lock_guard stateLock(state_);
                if (!dropped_) segments_.unpin(FrozenSegments::segmentOf(read.record.slot));
            } else {
                return count;
            }
        }
        // Outside the locks: decrypting, and whatever the caller does with the bytes.
        const auto& read = readSlots_[index];
        const auto& [page, slot] = read.record;
        std::array<std::byte, pageBytes> plain;
        const std::span<std::byte> bytes(plain.data(), slot.bytes);
        Result<void> outcome;
        if (cipher_->wiped())
            outcome = failSwitchedOff();
        else if (read.result < 0)
            outcome = failErrno(fmt::format("{}: reading page {} at {}", file_->name(), page, slot.offset()),
                                -read.result);
        else if (static_cast<std::size_t>(read.result) < endInSectors(slot))
            outcome = fail(ErrorCode::systemError, fmt::format("{} ends within the record of page {} at {}",
                                                               file_->name(), page, slot.offset()));
        else
            outcome = unseal(read.identity, slot, read.bytes.get(), bytes);
        ReadDone done{read.token, read.record, std::span<const std::byte>(bytes)};
        if (!outcome) done.bytes = tl::unexpected(outcome.error());
        visit(done);
        const std::lock_guard lock(reader_);
        idle_.push_back(index);
    }
}

Result<std::span<const std::byte>> FrozenStore::Impl::get(PageNumber page, FrozenSlot slot,
                                                          std::span<std::byte> into) {
    if (into.size() < slot.bytes || slot.bytes > pageBytes)
        return fail(ErrorCode::invalidArgument,
                    fmt::format("file tier: a record of {} bytes, and room for {}", slot.bytes, into.size()));
    alignas(sectorBytes) std::array<std::byte, maxReadBytes> sectors;
    FrozenIdentity identity;
    bool inMemory = false;
    {
        const std::lock_guard lock(state_);
        const auto located = locate(page, slot, sectors.data(), identity);
        if (!located) return tl::unexpected(located.error());
        inMemory = *located;
    }
    if (!inMemory) {
        const auto read = file_->read(firstSector(slot), {sectors.data(), sectorsOf(slot)});
        {
            const std::lock_guard lock(state_);
            if (!dropped_) segments_.unpin(FrozenSegments::segmentOf(slot));
        }
        if (cipher_->wiped()) return failSwitchedOff();
        if (!read)
            return fail(read.error().code,
                        fmt::format("page {} at {}: {}", page, slot.offset(), read.error().message));
    }
    const auto bytes = into.first(slot.bytes);
    const auto unsealed = unseal(identity, slot, sectors.data(), bytes);
    if (!unsealed) return tl::unexpected(unsealed.error());
    return bytes;
}

Result<void> FrozenStore::Impl::unseal(const FrozenIdentity& identity, FrozenSlot slot,
                                       const std::byte* sectors, std::span<std::byte> into) const {
    auto opened = cipher_->open(identity, {sectors + slot.offset() % sectorBytes, sealedBytes(slot)}, into);
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
