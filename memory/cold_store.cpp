// SPDX-License-Identifier: Apache-2.0
#include "memory/cold_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/uio.h>
#include <xxhash.h>

#include <array>
#include <cstring>
#include <utility>

namespace thermocline::memory {
namespace {

/// In front of each slot's bytes. The page number makes a slot that is read for the wrong page as invalid as
/// a damaged one.
struct SlotHeader {
    std::uint32_t page;  // low 32 bits of the page number
    std::uint32_t checksum;
};
static_assert(sizeof(SlotHeader) == 8);

std::uint32_t checksum(PageNumber page, std::span<const std::byte> bytes) {
    return static_cast<std::uint32_t>(XXH3_64bits_withSeed(bytes.data(), bytes.size(), page));
}

}  // namespace

Result<std::unique_ptr<ColdStore>> ColdStore::create(const std::string& path, std::uint64_t maxBytes) {
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.valid()) return failErrno(path);
    return std::unique_ptr<ColdStore>(new ColdStore(std::move(file), path, maxBytes));
}

ColdStore::ColdStore(UniqueFd file, std::string path, std::uint64_t maxBytes)
    : file_(std::move(file)),
      path_(std::move(path)),
      allocator_(maxBytes / SlotAllocator::slabBytes, [fd = file_.get()](std::uint64_t offset) {
          // A failure costs memory, not bytes: the slab is simply still there when it is used again.
          (void)::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                            SlotAllocator::slabBytes);
      }) {}

Result<Slot> ColdStore::put(PageNumber page, std::span<const std::byte> compressed) {
    std::optional<Slot> slot;
    {
        const std::lock_guard lock(mutex_);
        slot = allocator_.allocate(static_cast<std::uint32_t>(sizeof(SlotHeader) + compressed.size()));
    }
    if (!slot) return fail(ErrorCode::outOfMemory, path_ + " is full");
    // pwrite, not a mapping: a full tmpfs is then an error that we can return instead of a SIGBUS.
    std::array<std::byte, sizeof(SlotHeader) + pageBytes> buffer;
    const SlotHeader header{static_cast<std::uint32_t>(page), checksum(page, compressed)};
    std::memcpy(buffer.data(), &header, sizeof header);
    std::memcpy(buffer.data() + sizeof header, compressed.data(), compressed.size());
    if (::pwrite(file_.get(), buffer.data(), slot->bytes, static_cast<off_t>(slot->offset())) !=
        static_cast<ssize_t>(slot->bytes)) {
        const int error = errno;
        release(*slot);
        return failErrno("writing " + path_, error,
                         error == ENOSPC ? ErrorCode::outOfMemory : ErrorCode::systemError);
    }
    return *slot;
}

Result<void> ColdStore::get(PageNumber page, Slot slot, PageCodec& codec, MutablePageBytes into) const {
    std::array<std::byte, sizeof(SlotHeader) + pageBytes> buffer;
    if (slot.bytes <= sizeof(SlotHeader) || slot.bytes > buffer.size())
        return fail(ErrorCode::systemError,
                    fmt::format("{}: page {} has a slot of {} bytes", path_, page, slot.bytes));
    if (::pread(file_.get(), buffer.data(), slot.bytes, static_cast<off_t>(slot.offset())) !=
        static_cast<ssize_t>(slot.bytes))
        return failErrno(fmt::format("{}: reading page {}", path_, page));
    SlotHeader header{};
    std::memcpy(&header, buffer.data(), sizeof header);
    const std::span<const std::byte> compressed(buffer.data() + sizeof header, slot.bytes - sizeof header);
    if (header.page != static_cast<std::uint32_t>(page) || header.checksum != checksum(page, compressed) ||
        !codec.decompress(compressed, into))
        return fail(ErrorCode::systemError,
                    fmt::format("{}: the slot of page {} at {} is damaged", path_, page, slot.offset()));
    return {};
}

void ColdStore::release(Slot slot) {
    const std::lock_guard lock(mutex_);
    allocator_.free(slot);
}

void ColdStore::trim() {
    const std::lock_guard lock(mutex_);
    allocator_.trim();
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
