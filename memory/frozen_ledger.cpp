// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_ledger.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <new>
#include <utility>

namespace thermocline::memory {
namespace {

constexpr std::uint64_t theFormat = 0x3130'6e7a'7266'6374;  // "tcfrzn01"
/// Segments of less than their full size are rare (flush), but there are some.
constexpr std::uint64_t segmentsBeyondPlan = 512;
constexpr std::uint64_t mostSegments = std::uint64_t{1} << 25;  // 8 TiB

std::uint64_t roundToPage(std::uint64_t bytes) {
    return (bytes + pageBytes - 1) / pageBytes * pageBytes;
}

/// As in event_journal.cpp: only the compiler must be told of the order.
template <typename T>
void store(T& where, T value) {
    std::atomic_ref(where).store(value, std::memory_order_release);
}

}  // namespace

struct FrozenLedger::Header {
    std::uint64_t format;
    std::uint64_t buffers;
    FrozenFile::Identity file;
    std::uint32_t closing;
    std::array<FrozenSegments::Index, mostBuffers> segments;
    DayBudget written;

    [[nodiscard]] static std::uint64_t bufferOffset(std::uint64_t index) {
        return pageBytes + index * FrozenSegments::segmentBytes;
    }
    /// Behind the last buffer.
    [[nodiscard]] static std::uint64_t tableOffset(std::uint64_t buffers) { return bufferOffset(buffers); }
};

Result<void> FrozenLedger::map(std::uint64_t bytes) {
    static_assert(sizeof(Header) <= pageBytes);
    void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    if (mapped == MAP_FAILED) return failErrno("mapping " + name_);
    header_ = static_cast<Header*>(mapped);
    mapped_ = bytes;
    return {};
}

Result<void> FrozenLedger::reserve(std::uint64_t from, std::uint64_t bytes) {
    const int error = ::posix_fallocate(fd_.get(), static_cast<off_t>(from), static_cast<off_t>(bytes));
    if (error != 0) return failErrno("reserving " + name_, error, ErrorCode::outOfMemory);
    return {};
}

Result<std::unique_ptr<FrozenLedger>> FrozenLedger::create(const std::string& path, std::size_t buffers,
                                                           std::uint64_t maxFileBytes) {
    const bool kept = !path.empty();
    UniqueFd fd(kept ? ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
                     : static_cast<int>(::syscall(SYS_memfd_create, "thermocline-file-tier", MFD_CLOEXEC)));
    if (!fd.valid()) return failErrno(kept ? path : "memfd_create for the file tier");
    std::unique_ptr<FrozenLedger> ledger(
        new FrozenLedger(std::move(fd), kept ? path : "the file tier's ledger"));
    const auto refuse = [&](const tl::unexpected<Error>& why) {
        if (kept) ::unlink(path.c_str());
        return why;
    };
    const auto segments =
        std::min(maxFileBytes / FrozenSegments::segmentBytes + segmentsBeyondPlan, mostSegments);
    const auto tableOffset = Header::tableOffset(buffers);
    const auto bytes = roundToPage(tableOffset + segments * sizeof(std::uint64_t));
    if (::ftruncate(ledger->fd_.get(), static_cast<off_t>(bytes)) != 0)
        return refuse(failErrno("sizing " + ledger->name_));
    // A full tmpfs must show here and wherever something is reserved, not as a SIGBUS. The table and the
    // buffers grow with what is in use.
    if (const auto reserved = ledger->reserve(0, pageBytes); !reserved)
        return refuse(tl::unexpected(reserved.error()));
    if (const auto mapped = ledger->map(bytes); !mapped) return refuse(tl::unexpected(mapped.error()));
    ledger->tableEnd_ = tableOffset;
    auto& header = *ledger->header_;
    header.buffers = buffers;
    header.segments.fill(none);
    new (&header.written) DayBudget;
    store(header.format, theFormat);
    return ledger;
}

Result<std::unique_ptr<FrozenLedger>> FrozenLedger::open(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.valid() && errno == ENOENT)
        return fail(ErrorCode::notAttached, "this VM was attached without a file tier");
    struct stat info {};
    if (!fd.valid() || ::fstat(fd.get(), &info) != 0) return failErrno(path);
    std::unique_ptr<FrozenLedger> ledger(new FrozenLedger(std::move(fd), path));
    const auto damaged = [&] {
        return fail(ErrorCode::notSupported, fmt::format("{} is of another version, or damaged", path));
    };
    const auto bytes = static_cast<std::uint64_t>(info.st_size);
    if (bytes < Header::tableOffset(1)) return damaged();
    THERMOCLINE_TRY(ledger->map(bytes));
    const auto& header = *ledger->header_;
    if (header.format != theFormat || header.buffers < 1 || header.buffers > mostBuffers ||
        bytes < Header::tableOffset(header.buffers) || bytes % pageBytes != 0)
        return damaged();
    // The table has no gaps: segments are numbered in the order in which they are first filled.
    const auto table = static_cast<off_t>(Header::tableOffset(header.buffers));
    const auto hole = ::lseek(ledger->fd_.get(), table, SEEK_HOLE);
    ledger->tableEnd_ = static_cast<std::uint64_t>(std::max(hole, table));
    for (std::size_t i = 0; i < header.buffers; ++i) {
        const auto at = static_cast<off_t>(Header::bufferOffset(i));
        ledger->reservedBuffers_[i] = ::lseek(ledger->fd_.get(), at, SEEK_HOLE) >=
                                      at + static_cast<off_t>(FrozenSegments::segmentBytes);
    }
    return ledger;
}

FrozenLedger::~FrozenLedger() {
    if (header_ != nullptr) ::munmap(header_, mapped_);
}

std::size_t FrozenLedger::buffers() const {
    return header_->buffers;
}

std::byte* FrozenLedger::buffer(std::size_t index) const {
    return reinterpret_cast<std::byte*>(header_) + Header::bufferOffset(index);
}

Result<void> FrozenLedger::reserveBuffer(std::size_t index) {
    if (reservedBuffers_.test(index)) return {};
    THERMOCLINE_TRY(reserve(Header::bufferOffset(index), FrozenSegments::segmentBytes));
    reservedBuffers_.set(index);
    return {};
}

FrozenSegments::Index FrozenLedger::segmentIn(std::size_t index) const {
    return header_->segments.at(index);
}

void FrozenLedger::setSegment(std::size_t index, FrozenSegments::Index segment) {
    store(header_->segments.at(index), segment);
}

std::uint64_t* FrozenLedger::table() const {
    return reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::byte*>(header_) +
                                            Header::tableOffset(header_->buffers));
}

Result<void> FrozenLedger::setSerial(FrozenSegments::Index segment, std::uint64_t serial) {
    const auto end = Header::tableOffset(header_->buffers) + (segment + std::uint64_t{1}) * sizeof serial;
    if (end > mapped_)
        return fail(ErrorCode::outOfMemory, "the file tier has more segments than planned for");
    if (end > tableEnd_) {
        const auto more = roundToPage(end) - tableEnd_;
        THERMOCLINE_TRY(reserve(tableEnd_, more));
        tableEnd_ += more;
    }
    store(table()[segment], serial);
    return {};
}

std::span<const std::uint64_t> FrozenLedger::serials() const {
    const auto offset = Header::tableOffset(header_->buffers);
    auto used = (tableEnd_ - offset) / sizeof(std::uint64_t);
    while (used > 0 && table()[used - 1] == 0)
        --used;
    return {table(), used};
}

DayBudget& FrozenLedger::written() {
    return header_->written;
}

FrozenFile::Identity FrozenLedger::file() const {
    return header_->file;
}

void FrozenLedger::setFile(const FrozenFile::Identity& file) {
    header_->file = file;
}

bool FrozenLedger::closing() const {
    return header_->closing != 0;
}

void FrozenLedger::setClosing() {
    store(header_->closing, 1U);
}

std::uint64_t FrozenLedger::bytes() const {
    return pageBytes + reservedBuffers_.count() * FrozenSegments::segmentBytes +
           (tableEnd_ - Header::tableOffset(header_->buffers));
}

}  // namespace thermocline::memory
