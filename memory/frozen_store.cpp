// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "memory/frozen_store_impl.h"

namespace thermocline::memory {
namespace {

constexpr auto segmentBytes = FrozenSegments::segmentBytes;
constexpr auto sectorBytes = FrozenSegments::sectorBytes;

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
      readBytes_(allocate(options_.readsUnderWay * maxReadBytes)),
      readSlots_(options_.readsUnderWay),
      writes_(std::move(writes)),
      reads_(std::move(reads)) {
    for (std::size_t i = 0; i < buffers_.size(); ++i)
        buffers_[i] = {ledger_->buffer(i), ledger_->segmentIn(i)};
    // So that what the fault thread does needs no memory.
    for (std::size_t i = 0; i < readSlots_.size(); ++i) {
        readSlots_[i].bytes = readBytes_.get() + i * maxReadBytes;
        readSlots_[i].parts.reserve(mostRecordsInRead);
        idle_.push_back(readSlots_.size() - 1 - i);
    }
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
    Status status;
    {
        const std::lock_guard lock(reader_);
        status.metadataBytes = most_ * maxReadBytes;
    }
    const std::lock_guard lock(state_);
    status.liveRecords = segments_.liveRecordCount();
    status.liveBytes = segments_.liveBytes();
    status.fileBytes = segments_.fileBytes();
    status.bytesWrittenInADay = ledger_->written().lastDay(file_->now());
    status.damagedRecords = damaged_.load(std::memory_order_relaxed);
    status.metadataBytes += segments_.metadataBytes() + ledger_->bytes();
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
Result<std::size_t> FrozenStore::submitRead(std::span<const FrozenRecord> records) {
    return impl_->submitRead(records);
}
std::size_t FrozenStore::freeReads() const {
    return impl_->freeReads();
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
