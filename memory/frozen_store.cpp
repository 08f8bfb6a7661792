// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "memory/frozen_cipher.h"
#include "memory/frozen_ledger.h"
#include "memory/io_ring.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {
namespace {

constexpr auto segmentBytes = FrozenSegments::segmentBytes;
constexpr auto sectorBytes = FrozenSegments::sectorBytes;
/// Beyond its multiple, the file may take this much before it is compacted: what is open and being written.
constexpr std::uint64_t spaceSlack = 4 * segmentBytes;
/// Every record fits into two sectors: its place is a multiple of 16, and 4096 + 16 bytes from there end
/// before the third.
constexpr std::size_t maxReadBytes = 2 * sectorBytes;
static_assert(sectorBytes - FrozenSlot::granuleBytes + pageBytes + FrozenCipher::tagBytes <= maxReadBytes);
static_assert(FrozenSegments::tagBytes == FrozenCipher::tagBytes);

std::uint64_t firstSector(FrozenSlot slot) {
    return slot.offset() / sectorBytes * sectorBytes;
}
std::size_t sealedBytes(FrozenSlot slot) {
    return slot.bytes + FrozenCipher::tagBytes;
}
/// Where the sealed record ends, counted from its first sector.
std::size_t endInSectors(FrozenSlot slot) {
    return slot.offset() % sectorBytes + sealedBytes(slot);
}
std::size_t sectorsOf(FrozenSlot slot) {
    return FrozenSegments::roundToSector(endInSectors(slot));
}

Result<void> check(const FrozenOptions& options) {
    const auto refuse = [](std::string what) {
        return fail(ErrorCode::invalidArgument, "file tier: " + std::move(what));
    };
    if (options.maxFileBytes < 4 * segmentBytes)
        return refuse(fmt::format("{} bytes on disk are too few, {} is the least", options.maxFileBytes,
                                  4 * segmentBytes));
    if (!(options.maxSpaceMultiple >= 1.1))
        return refuse(fmt::format("the space multiple {} is below 1.1", options.maxSpaceMultiple));
    if (options.writesUnderWay < 1 || options.writesUnderWay > 64)
        return refuse(fmt::format("{} writes under way, 1 to 64 are possible", options.writesUnderWay));
    if (options.readsUnderWay < 1 || options.readsUnderWay > 1024)
        return refuse(fmt::format("{} reads under way, 1 to 1024 are possible", options.readsUnderWay));
    return {};
}

}  // namespace

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
    Result<void> submitRead(PageNumber page, FrozenSlot slot, std::uint64_t token);
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
    struct Read {
        Bytes bytes;
        std::uint64_t token = 0;
        FrozenRecord record;
        FrozenIdentity identity;
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
    /// Where the record is in memory, puts its sealed bytes where a read of its sectors would; else pins its
    /// segment.
    Result<bool> locate(PageNumber page, FrozenSlot slot, std::byte* sectors, FrozenIdentity& identity);

    Result<void> unseal(const FrozenIdentity& identity, FrozenSlot slot, const std::byte* sectors,
                        std::span<std::byte> into) const;

    const FrozenOptions options_;
    std::unique_ptr<FrozenFile> file_;
    std::unique_ptr<FrozenCipher> cipher_;
    std::unique_ptr<FrozenLedger> ledger_;
    mutable std::atomic<std::uint64_t> damaged_{0};

    // Locks in this order; state_ is held for microseconds only, never over I/O or encryption.
    // writer_ guards writes_, open_, Buffer::sent, the file's size, and what no record of the open segment
    // has yet. reader_ guards reads_, idle_ and ready_. state_ guards the five members that follow it, and
    // ledger_.
    std::mutex writer_;
    std::mutex reader_;
    mutable std::mutex state_;
    FrozenSegments segments_;
    std::vector<Buffer> buffers_;
    std::size_t failedSegments_ = 0;
    Error failure_;         // while failedSegments_ > 0
    bool dropped_ = false;  // by the kill switch

    std::size_t open_;  // the buffer of the open segment; buffers_.size(): none is open
    std::vector<Read> readSlots_;
    std::vector<std::size_t> idle_;   // of them
    std::vector<std::size_t> ready_;  // of them: have their bytes already
    std::unique_ptr<IoRing> writes_;  // last: they end first, and wait for what uses the buffers
    std::unique_ptr<IoRing> reads_;
};

FrozenStore::Impl::Impl(FrozenOptions options, std::unique_ptr<FrozenFile> file,
                        std::unique_ptr<FrozenCipher> cipher, std::unique_ptr<FrozenLedger> ledger,
                        std::unique_ptr<IoRing> writes, std::unique_ptr<IoRing> reads)
    : options_(std::move(options)),
      file_(std::move(file)),
      cipher_(std::move(cipher)),
      ledger_(std::move(ledger)),
      segments_(options_.maxFileBytes, ledger_->serials()),
      buffers_(options_.writesUnderWay + 1),
      open_(buffers_.size()),
      readSlots_(options_.readsUnderWay),
      writes_(std::move(writes)),
      reads_(std::move(reads)) {
    for (std::size_t i = 0; i < buffers_.size(); ++i)
        buffers_[i] = {ledger_->buffer(i), ledger_->segmentIn(i)};
    for (auto& read : readSlots_) {
        read.bytes = allocate(maxReadBytes);
        idle_.push_back(idle_.size());
    }
    // So that what the fault thread does needs no memory.
    ready_.reserve(readSlots_.size());
}

FrozenStore::Impl::Bytes FrozenStore::Impl::allocate(std::size_t bytes) {
    Bytes allocated(static_cast<std::byte*>(std::aligned_alloc(sectorBytes, bytes)));
    if (!allocated) throw std::bad_alloc();
    return allocated;
}

// -- outliving a process --

Result<FrozenStore::Kept> FrozenStore::Impl::toKeep() const {
    if (cipher_->key().descriptor() < 0)
        return fail(ErrorCode::notSupported,
                    "this kernel has no secret memory (memfd_secret: Linux 6.5, or secretmem.enable=1)");
    Kept kept{UniqueFd(::fcntl(cipher_->key().descriptor(), F_DUPFD_CLOEXEC, 0)), {}};
    if (!kept.key.valid()) return failErrno("a copy of the key's descriptor");
    auto file = file_->toKeep();
    if (!file) return tl::unexpected(file.error());
    kept.file = std::move(*file);
    return kept;
}

bool FrozenStore::Impl::claim(PageNumber page, FrozenSlot slot) {
    const std::lock_guard lock(state_);
    return segments_.claim(page, slot);
}

/// Segments that the other one had in memory are written (again): from where its records are, and to where
/// they were to go, so that it does no harm if its own write of them was done. It must be over, though: later
/// the buffer, and the segment, will have other bytes.
void FrozenStore::Impl::endClaims() {
    const std::lock_guard lock(writer_);
    std::vector<Index> unwritten;
    for (const auto& buffer : buffers_)
        if (buffer.segment != none) unwritten.push_back(buffer.segment);
    if (!unwritten.empty()) file_->awaitWrites(ledger_->serials().size() * segmentBytes);
    {
        const std::lock_guard stateLock(state_);
        segments_.endClaims(unwritten);
    }
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
        auto& buffer = buffers_[i];
        if (buffer.segment == none) continue;
        if (segments_.state(buffer.segment) == FrozenSegments::State::writing) {
            (void)send(i);
            continue;
        }
        const std::lock_guard stateLock(state_);
        letGo(buffer);
    }
}

bool FrozenStore::Impl::closing() const {
    const std::lock_guard lock(state_);
    return ledger_->closing();
}

void FrozenStore::Impl::setClosing() {
    const std::lock_guard lock(state_);
    ledger_->setClosing();
}

// -- writing --

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

// -- reading --

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

// -- compaction --

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
    const auto end = firstSector(records.back().slot) + sectorsOf(records.back().slot);
    const auto sectors = allocate(end - begin);
    outcome = file_->read(begin, {sectors.get(), end - begin});
    std::vector<Move> moves;
    if (!outcome) return moves;
    std::array<std::byte, pageBytes> plain;
    for (const auto& [page, slot] : records) {
        const FrozenIdentity identity{page, slot.granule, serial};
        const std::span<std::byte> bytes(plain.data(), slot.bytes);
        if (auto opened = unseal(identity, slot, sectors.get() + (firstSector(slot) - begin), bytes);
            !opened) {
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

// -- the end --

Result<void> FrozenStore::Impl::killSwitch() {
    cipher_->wipe();
    const std::scoped_lock lock(writer_);
    // What is under way would bring the file back; it is of no use to anybody, but gone is gone.
    while (writes_->wait()) {
    }
    auto emptied = file_->empty();
    const std::lock_guard stateLock(state_);
    dropped_ = true;
    segments_ = FrozenSegments(options_.maxFileBytes);
    for (auto& buffer : buffers_)
        letGo(buffer);
    open_ = buffers_.size();
    return emptied;
}

FrozenStore::Status FrozenStore::Impl::status() const {
    const std::lock_guard lock(state_);
    Status status;
    status.liveRecords = segments_.liveRecordCount();
    status.liveBytes = segments_.liveBytes();
    status.fileBytes = segments_.fileBytes();
    status.bytesWrittenInADay = ledger_->written().lastDay(file_->now());
    status.damagedRecords = damaged_.load(std::memory_order_relaxed);
    status.metadataBytes = segments_.metadataBytes() + ledger_->bytes() + readSlots_.size() * maxReadBytes;
    for (const auto& buffer : buffers_)
        if (buffer.segment != none && segments_.state(buffer.segment) == FrozenSegments::State::writing)
            ++status.writesUnderWay;
    status.failedSegments = failedSegments_;
    return status;
}

// -- the outside --

Result<std::unique_ptr<FrozenStore::Impl>> FrozenStore::Impl::make(FrozenOptions options,
                                                                   Result<std::unique_ptr<FrozenFile>> file,
                                                                   Result<FrozenKey> key,
                                                                   std::unique_ptr<FrozenLedger> ledger) {
    if (!file) return tl::unexpected(std::move(file).error());
    if (!key) return tl::unexpected(std::move(key).error());
    auto cipher = FrozenCipher::create(std::move(*key));
    if (!cipher) return tl::unexpected(std::move(cipher).error());
    auto writes = IoRing::create(static_cast<unsigned>(options.writesUnderWay + 1));
    if (!writes) return tl::unexpected(std::move(writes).error());
    auto reads = IoRing::create(static_cast<unsigned>(options.readsUnderWay));
    if (!reads) return tl::unexpected(std::move(reads).error());
    return std::make_unique<Impl>(std::move(options), std::move(*file), std::move(*cipher), std::move(ledger),
                                  std::move(*writes), std::move(*reads));
}

Result<std::unique_ptr<FrozenStore>> FrozenStore::create(FrozenOptions options) {
    THERMOCLINE_TRY(check(options));
    auto file = FrozenFile::create(options.directory, options.allowBuffered, options.seams);
    if (!file) return tl::unexpected(std::move(file).error());
    const auto identity = (*file)->identity();
    if (!identity) return tl::unexpected(identity.error());
    const auto path = options.ledger;
    auto ledger = FrozenLedger::create(path, options.writesUnderWay + 1, options.maxFileBytes);
    if (!ledger) return tl::unexpected(std::move(ledger).error());
    (*ledger)->setFile(*identity);
    auto impl = Impl::make(std::move(options), std::move(file), FrozenKey::draw(), std::move(*ledger));
    if (!impl) {
        if (!path.empty()) ::unlink(path.c_str());
        return tl::unexpected(std::move(impl).error());
    }
    return std::unique_ptr<FrozenStore>(new FrozenStore(std::move(*impl)));
}

Result<std::unique_ptr<FrozenStore>> FrozenStore::recover(FrozenOptions options, Kept kept) {
    auto ledger = FrozenLedger::open(options.ledger);
    if (!ledger) return tl::unexpected(std::move(ledger).error());
    options.writesUnderWay = (*ledger)->buffers() - 1;
    THERMOCLINE_TRY(check(options));
    if (!kept.key.valid() || !kept.file.valid())
        return fail(ErrorCode::notSupported, "nobody has kept its key and its file");
    auto file =
        FrozenFile::take(std::move(kept.file), (*ledger)->file(), options.allowBuffered, options.seams);
    auto impl = Impl::make(std::move(options), std::move(file), FrozenKey::take(std::move(kept.key)),
                           std::move(*ledger));
    if (!impl) return tl::unexpected(std::move(impl).error());
    return std::unique_ptr<FrozenStore>(new FrozenStore(std::move(*impl)));
}

bool FrozenStore::claim(PageNumber page, FrozenSlot slot) {
    return impl_->claim(page, slot);
}
void FrozenStore::endClaims() {
    impl_->endClaims();
}
Result<FrozenStore::Kept> FrozenStore::toKeep() const {
    return impl_->toKeep();
}
bool FrozenStore::closing() const {
    return impl_->closing();
}
void FrozenStore::setClosing() {
    impl_->setClosing();
}

FrozenStore::FrozenStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FrozenStore::~FrozenStore() = default;

Result<FrozenSlot> FrozenStore::put(PageNumber page, std::span<const std::byte> bytes) {
    return impl_->put(page, bytes);
}
Result<void> FrozenStore::flush() {
    return impl_->flush();
}
Result<void> FrozenStore::poll() {
    return impl_->poll();
}
Result<void> FrozenStore::wait() {
    return impl_->wait();
}
int FrozenStore::writeEvent() const {
    return impl_->writeEvent();
}
std::vector<FrozenRecord> FrozenStore::failedRecords() const {
    return impl_->failedRecords();
}
Result<void> FrozenStore::submitRead(PageNumber page, FrozenSlot slot, std::uint64_t token) {
    return impl_->submitRead(page, slot, token);
}
std::size_t FrozenStore::completions(const std::function<void(const ReadDone&)>& visit) {
    return impl_->completions(visit);
}
int FrozenStore::readEvent() const {
    return impl_->readEvent();
}
Result<std::span<const std::byte>> FrozenStore::get(PageNumber page, FrozenSlot slot,
                                                    std::span<std::byte> into) {
    return impl_->get(page, slot, into);
}
void FrozenStore::release(FrozenSlot slot) {
    impl_->release(slot);
}
Result<std::vector<FrozenStore::Move>> FrozenStore::compactOne() {
    return impl_->compactOne();
}
Result<void> FrozenStore::killSwitch() {
    return impl_->killSwitch();
}
FrozenStore::Status FrozenStore::status() const {
    return impl_->status();
}

}  // namespace thermocline::memory
