// SPDX-License-Identifier: Apache-2.0
#include "memory/cold_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#ifdef THERMOCLINE_XXHASH_DISPATCHES
#include <xxh_x86dispatch.h>  // the same functions, by other names
#endif

#include <cstring>
#include <utility>

namespace thermocline::memory {
namespace {

/// In front of each slot's bytes. The page number makes a slot that is read for the wrong page as invalid as
/// a damaged one.
struct SlotHeader {
    std::uint32_t pageAndAlgorithm;  // low 31 bits of the page number; highest bit: LZ4, else zstd
    ContentHash content;
};
static_assert(sizeof(SlotHeader) == 16);

constexpr std::uint32_t lz4Bit = 1U << 31;

std::uint32_t tag(PageNumber page, Algorithm algorithm) {
    return (static_cast<std::uint32_t>(page) & ~lz4Bit) | (algorithm == Algorithm::lz4 ? lz4Bit : 0);
}

SlotHeader headerAt(const std::byte* slot) {
    SlotHeader header{};
    std::memcpy(&header, slot, sizeof header);
    return header;
}

Algorithm algorithmIn(const SlotHeader& header) {
    return (header.pageAndAlgorithm & lz4Bit) != 0 ? Algorithm::lz4 : Algorithm::zstd;
}

}  // namespace

ContentHash ContentHash::of(PageNumber number, PageBytes page) {
    const auto hash = XXH3_128bits_withSeed(page.data(), page.size(), number);
    return {{static_cast<std::uint32_t>(hash.low64), static_cast<std::uint32_t>(hash.low64 >> 32),
             static_cast<std::uint32_t>(hash.high64)}};
}

Result<std::unique_ptr<ColdStore>> ColdStore::create(const std::string& path, std::uint64_t maxBytes) {
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.valid()) return failErrno(path);
    const auto refuse = [&](const char* what) {
        const auto error = failErrno(std::string(what) + " " + path);
        ::unlink(path.c_str());
        return error;
    };
    maxBytes -= maxBytes % SlotAllocator::slabBytes;
    if (::ftruncate(file.get(), static_cast<off_t>(maxBytes)) != 0) return refuse("sizing");
    void* arena = ::mmap(nullptr, maxBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (arena == MAP_FAILED) return refuse("mapping");
    return std::unique_ptr<ColdStore>(
        new ColdStore(std::move(file), path, static_cast<std::byte*>(arena), maxBytes));
}

Result<std::unique_ptr<ColdStore>> ColdStore::open(const std::string& path, std::uint64_t maxBytes) {
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!file.valid()) return failErrno(path);
    maxBytes -= maxBytes % SlotAllocator::slabBytes;
    struct stat info {};
    if (::fstat(file.get(), &info) != 0) return failErrno(path);
    if (info.st_size != static_cast<off_t>(maxBytes))
        return fail(ErrorCode::systemError,
                    fmt::format("{} is damaged: it has {} bytes, not {}", path, info.st_size, maxBytes));
    void* arena = ::mmap(nullptr, maxBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (arena == MAP_FAILED) return failErrno("mapping " + path);
    return std::unique_ptr<ColdStore>(
        new ColdStore(std::move(file), path, static_cast<std::byte*>(arena), maxBytes));
}

bool ColdStore::claim(Slot slot) {
    const std::lock_guard lock(mutex_);
    return slot.bytes > sizeof(SlotHeader) && allocator_.claim(slot);
}

void ColdStore::endClaims() {
    const std::lock_guard lock(mutex_);
    for (const auto& [offset, bytes] : allocator_.endClaims())
        (void)::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                          static_cast<off_t>(bytes));
}

ColdStore::ColdStore(UniqueFd file, std::string path, std::byte* arena, std::uint64_t maxBytes)
    : file_(std::move(file)),
      path_(std::move(path)),
      arena_(arena),
      maxBytes_(maxBytes),
      allocator_(maxBytes / SlotAllocator::slabBytes,
                 {[this](std::uint64_t offset) { return acquireSlab(offset); },
                  [this](std::uint64_t offset) { releaseSlab(offset); }}) {}

ColdStore::~ColdStore() {
    ::munmap(arena_, maxBytes_);
}

/// Populating allocates and maps a whole slab at once, and tells of a full file system by an error; a mere
/// write to the mapping would by SIGBUS. Afterwards slots are read and written without a system call.
bool ColdStore::acquireSlab(std::uint64_t offset) {
    return ::madvise(arena_ + offset, SlotAllocator::slabBytes, MADV_POPULATE_WRITE) == 0;
}

void ColdStore::releaseSlab(std::uint64_t offset) {
    // A failure costs memory, not bytes: the slab is simply still there when it is used again.
    (void)::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                      SlotAllocator::slabBytes);
}

Result<Slot> ColdStore::put(PageNumber page, const ContentHash& content,
                            std::span<const std::byte> compressed, Algorithm algorithm) {
    std::optional<Slot> slot;
    {
        const std::lock_guard lock(mutex_);
        slot = allocator_.allocate(static_cast<std::uint32_t>(sizeof(SlotHeader) + compressed.size()));
    }
    if (!slot)
        return fail(ErrorCode::outOfMemory,
                    path_ + " is full, or the file system that it is on has no memory left");
    const SlotHeader header{tag(page, algorithm), content};
    std::memcpy(arena_ + slot->offset(), &header, sizeof header);
    std::memcpy(arena_ + slot->offset() + sizeof header, compressed.data(), compressed.size());
    return *slot;
}

Result<void> ColdStore::get(PageNumber page, Slot slot, PageCodec& codec, MutablePageBytes into) const {
    const bool possible =
        slot.bytes <= SlotAllocator::maxSlotBytes && slot.offset() + slot.bytes <= maxBytes_;
    if (possible && decode(page, bytesOf(slot), codec, into)) return {};
    return fail(ErrorCode::systemError, fmt::format("{}: the slot of page {} ({} bytes at {}) is damaged",
                                                    path_, page, slot.bytes, slot.offset()));
}

std::span<const std::byte> ColdStore::bytesOf(Slot slot) const {
    return {arena_ + slot.offset(), slot.bytes};
}

Result<void> ColdStore::decode(PageNumber page, std::span<const std::byte> slotBytes, PageCodec& codec,
                               MutablePageBytes into) {
    const auto damaged = [&] {
        return fail(ErrorCode::systemError,
                    fmt::format("a damaged slot of {} bytes for page {}", slotBytes.size(), page));
    };
    if (slotBytes.size() <= sizeof(SlotHeader)) return damaged();
    const auto header = headerAt(slotBytes.data());
    const auto algorithm = algorithmIn(header);
    if (header.pageAndAlgorithm != tag(page, algorithm) ||
        !codec.decompress(slotBytes.subspan(sizeof header), algorithm, into) ||
        header.content != ContentHash::of(page, PageBytes(into)))
        return damaged();
    return {};
}

ContentHash ColdStore::contentOf(Slot slot) const {
    return headerAt(arena_ + slot.offset()).content;
}

Algorithm ColdStore::algorithmOf(Slot slot) const {
    return algorithmIn(headerAt(arena_ + slot.offset()));
}

void ColdStore::release(Slot slot) {
    const std::lock_guard lock(mutex_);
    allocator_.free(slot);
}

void ColdStore::trim() {
    const std::lock_guard lock(mutex_);
    allocator_.trim();
}

bool ColdStore::sparse() const {
    const std::lock_guard lock(mutex_);
    // Slabs that are kept empty, and one of each class that is half full: not worth a search.
    constexpr std::uint64_t unavoidable = 3U << 19;
    return allocator_.slabBytesInUse() > unavoidable + allocator_.usedBytes() + allocator_.usedBytes() / 20;
}

bool ColdStore::compact(const std::function<void(PageNumber, Slot)>& move) {
    std::optional<std::uint32_t> slab;
    std::vector<Slot> slots;
    {
        const std::lock_guard lock(mutex_);
        slab = allocator_.isolate();
        if (!slab) return false;
        slots = allocator_.slotsIn(*slab);
    }
    for (const auto slot : slots)
        move(headerAt(arena_ + slot.offset()).pageAndAlgorithm & ~lz4Bit, slot);
    const std::lock_guard lock(mutex_);
    allocator_.putBack(*slab);
    return true;
}

Result<Slot> ColdStore::adopt(std::span<const std::byte> slotBytes) {
    // Until it is written, too: the fault thread adopts, and compact() looks at what is there.
    const std::lock_guard lock(mutex_);
    const auto to = allocator_.allocate(static_cast<std::uint32_t>(slotBytes.size()));
    if (!to) return fail(ErrorCode::outOfMemory, path_ + " is full");
    std::memcpy(arena_ + to->offset(), slotBytes.data(), slotBytes.size());
    return *to;
}

std::uint64_t ColdStore::storedBytes() const {
    const std::lock_guard lock(mutex_);
    return allocator_.slabBytesInUse();
}

std::uint64_t ColdStore::slotBytes() const {
    const std::lock_guard lock(mutex_);
    return allocator_.usedBytes();
}

std::uint64_t ColdStore::metadataBytes() const {
    const std::lock_guard lock(mutex_);
    return allocator_.metadataBytes();
}

}  // namespace thermocline::memory
