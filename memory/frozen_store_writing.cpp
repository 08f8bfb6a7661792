// SPDX-License-Identifier: Apache-2.0

// The file tier's store: records are put into segments, and segments go to the disk.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "memory/frozen_store_impl.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {
namespace {

constexpr auto segmentBytes = FrozenSegments::segmentBytes;
constexpr auto sectorBytes = FrozenSegments::sectorBytes;

}  // namespace

Result<FrozenSlot> FrozenStore::Impl::put(PageNumber page, std::span<const std::byte> bytes) {
    if (bytes.empty() || bytes.size() > pageBytes || page > FrozenSegments::maxPage)
        return fail(ErrorCode::invalidArgument,
                    fmt::format("file tier: {} bytes for page {}", bytes.size(), page));
    const std::lock_guard lock(writer_);
    // Compaction needs a segment to copy to before it can free one: that one is not for us.
    return append(page, bytes, segmentBytes);
}

Result<FrozenSlot> FrozenStore::Impl::append(PageNumber page, std::span<const std::byte> bytes,
                                             std::uint64_t reserve) {
    bool full = false;
    {
        const std::lock_guard lock(state_);
        THERMOCLINE_TRY(writable());
        full = open_ != buffers_.size() && !segments_.fits(buffers_[open_].segment, bytes.size());
    }
    if (full) THERMOCLINE_TRY(sealSegment());
    if (open_ == buffers_.size()) THERMOCLINE_TRY(openSegment(reserve));

    auto& buffer = buffers_[open_];
    FrozenSlot slot;
    FrozenIdentity identity{page, 0, 0};
    {
        const std::lock_guard lock(state_);
        const auto filled = segments_.filledBytes(buffer.segment);
        const auto toWrite =
            FrozenSegments::roundToSector(filled + FrozenSegments::recordBytes(bytes.size()));
        const auto writtenAlready = ledger_->written().lastDay(file_->now());
        if (toWrite > options_.maxBytesPerDay || writtenAlready > options_.maxBytesPerDay - toWrite)
            return fail(ErrorCode::outOfMemory,
                        fmt::format("the file tier's budget of {} bytes written per day is used up",
                                    options_.maxBytesPerDay));
        slot = segments_.append(buffer.segment, page, bytes.size());
        identity.granule = slot.granule;
        identity.serial = segments_.serial(buffer.segment);
    }
    // Outside state_: nobody else knows the slot yet, and no other record has these bytes.
    auto* at = buffer.bytes + slot.offset() % segmentBytes;
    const auto sealed = cipher_->seal(identity, bytes, {at, sealedBytes(slot)});
    if (!sealed) {
        release(slot);
        return tl::unexpected(sealed.error());
    }
    std::fill(at + sealedBytes(slot), at + FrozenSegments::recordBytes(bytes.size()), std::byte{});
    return slot;
}

Result<void> FrozenStore::Impl::writable() const {
    if (cipher_->wiped()) return failSwitchedOff();
    if (failedSegments_ > 0) return tl::unexpected(failure_);
    return {};
}

std::size_t FrozenStore::Impl::freeBuffer() const {
    const std::lock_guard lock(state_);
    return static_cast<std::size_t>(std::ranges::find(buffers_, none, &Buffer::segment) - buffers_.begin());
}

Result<void> FrozenStore::Impl::openSegment(std::uint64_t reserve) {
    auto buffer = freeBuffer();
    if (buffer == buffers_.size()) {
        collectWrites();
        buffer = freeBuffer();
    }
    if (buffer == buffers_.size())
        return fail(ErrorCode::busy, fmt::format("{} segments wait to be written to {}",
                                                 options_.writesUnderWay, file_->name()));
    {
        const std::lock_guard lock(state_);
        THERMOCLINE_TRY(ledger_->reserveBuffer(buffer));
    }
    const auto open = [&] {
        const std::lock_guard lock(state_);
        return segments_.open(reserve);
    };
    auto segment = open();
    if (!segment) {
        giveBackSpace();
        segment = open();
    }
    if (!segment)
        return fail(
            ErrorCode::outOfMemory,
            fmt::format("the file tier's budget of {} bytes on disk is used up", options_.maxFileBytes));
    auto grown = file_->growTo(FrozenSegments::offsetOf(*segment) + segmentBytes);
    const std::lock_guard lock(state_);
    if (grown) grown = ledger_->setSerial(*segment, segments_.serial(*segment));
    if (!grown) {
        segments_.seal(*segment);
        return grown;
    }
    buffers_[buffer].segment = *segment;
    buffers_[buffer].sent = 0;
    ledger_->setSegment(buffer, *segment);
    sequencePoint("segment-opened");
    open_ = buffer;
    return {};
}

/// The open segment is not open any more, whatever this returns.
Result<void> FrozenStore::Impl::sealSegment() {
    const auto index = std::exchange(open_, buffers_.size());
    auto& buffer = buffers_[index];
    std::uint64_t filled = 0;
    {
        const std::lock_guard lock(state_);
        filled = segments_.filledBytes(buffer.segment);
        if (!segments_.seal(buffer.segment)) {
            letGo(buffer);
            return {};
        }
        ledger_->written().add(file_->now(), FrozenSegments::roundToSector(filled));
    }
    // What an earlier segment left in the buffer is no business of this one.
    std::fill(buffer.bytes + filled, buffer.bytes + FrozenSegments::roundToSector(filled), std::byte{});
    return send(index);
}

Result<void> FrozenStore::Impl::send(std::size_t index) {
    auto& buffer = buffers_[index];
    std::uint64_t length = 0;
    {
        const std::lock_guard lock(state_);
        length = FrozenSegments::roundToSector(segments_.filledBytes(buffer.segment));
    }
    auto sent = writes_->write(file_->descriptor(), {buffer.bytes + buffer.sent, length - buffer.sent},
                               FrozenSegments::offsetOf(buffer.segment) + buffer.sent, index);
    if (sent) return {};
    const std::lock_guard lock(state_);
    keepInMemory(buffer, {ErrorCode::systemError,
                          fmt::format("writing to {}: {}", file_->name(), sent.error().message)});
    return writable();
}

void FrozenStore::Impl::keepInMemory(Buffer& buffer, Error why) {
    buffer.failed = true;
    ++failedSegments_;
    failure_ = std::move(why);
    segments_.failed(buffer.segment);
    if (segments_.state(buffer.segment) != FrozenSegments::State::failed) letGo(buffer);
}

void FrozenStore::Impl::finishWrite(const IoRing::Done& done) {
    const auto index = static_cast<std::size_t>(done.token);
    auto& buffer = buffers_[index];
    const int result = file_->seen(true, FrozenSegments::offsetOf(buffer.segment) + buffer.sent, done.result);
    {
        const std::lock_guard lock(state_);
        const auto left = FrozenSegments::roundToSector(segments_.filledBytes(buffer.segment)) - buffer.sent;
        // In whole sectors, as O_DIRECT wants the next one to begin at one.
        const auto taken = result > 0 ? static_cast<std::uint64_t>(result) / sectorBytes * sectorBytes : 0;
        if (taken >= left) {
            sequencePoint("segment-written");
            segments_.written(buffer.segment);
            letGo(buffer);
            return;
        }
        if (taken == 0) {
            const int error = result < 0 ? -result : ENOSPC;
            const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
            keepInMemory(buffer, failErrno("writing to " + file_->name(), error,
                                           full ? ErrorCode::outOfMemory : ErrorCode::systemError)
                                     .value());
            return;
        }
        buffer.sent += taken;
    }
    // A failure is kept until its records are released: append() and poll() report it.
    (void)send(index);
}

void FrozenStore::Impl::letGo(Buffer& buffer) {
    if (buffer.failed) --failedSegments_;
    buffer.failed = false;
    buffer.segment = none;
    ledger_->setSegment(static_cast<std::size_t>(&buffer - buffers_.data()), none);
}

void FrozenStore::Impl::collectWrites() {
    while (const auto done = writes_->next())
        finishWrite(*done);
}

void FrozenStore::Impl::giveBackSpace() {
    std::vector<Index> spent;
    {
        const std::lock_guard lock(state_);
        while (const auto segment = segments_.takeSpent())
            spent.push_back(*segment);
    }
    // Some neighbours together, since the file system's work is much the same for each call; not all of them,
    // since reads wait meanwhile.
    constexpr std::size_t together = 8;
    std::ranges::sort(spent);
    for (std::size_t first = 0; first < spent.size();) {
        std::size_t end = first + 1;
        while (end < spent.size() && end - first < together && spent[end] == spent[end - 1] + 1)
            ++end;
        const bool given =
            file_->giveBack(FrozenSegments::offsetOf(spent[first]), (end - first) * segmentBytes);
        const std::lock_guard lock(state_);
        // Where it was not, that costs space, not bytes: it is still there when it is used again.
        for (; first < end; ++first)
            given ? segments_.becameHole(spent[first]) : segments_.staysSpent(spent[first]);
    }
}

Result<void> FrozenStore::Impl::flush() {
    const std::lock_guard lock(writer_);
    {
        const std::lock_guard stateLock(state_);
        THERMOCLINE_TRY(writable());
    }
    return open_ != buffers_.size() ? sealSegment() : Result<void>{};
}

Result<void> FrozenStore::Impl::poll() {
    const std::lock_guard lock(writer_);
    if (cipher_->wiped()) return failSwitchedOff();
    // First, so that what ends from now on makes it readable again.
    writes_->clearEvent();
    collectWrites();
    giveBackSpace();
    const std::lock_guard stateLock(state_);
    return writable();
}

Result<void> FrozenStore::Impl::wait() {
    const std::lock_guard lock(writer_);
    if (cipher_->wiped()) return failSwitchedOff();
    if (const auto done = writes_->wait()) finishWrite(*done);
    collectWrites();
    giveBackSpace();
    const std::lock_guard stateLock(state_);
    return writable();
}

std::vector<FrozenRecord> FrozenStore::Impl::failedRecords() const {
    const std::lock_guard lock(state_);
    std::vector<FrozenRecord> records;
    for (const auto& buffer : buffers_) {
        if (!buffer.failed) continue;
        const auto more = segments_.liveRecords(buffer.segment);
        records.insert(records.end(), more.begin(), more.end());
    }
    return records;
}

}  // namespace thermocline::memory
