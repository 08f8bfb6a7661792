// SPDX-License-Identifier: Apache-2.0
#pragma once

// The compressed pages of one VM, in a file of its state directory (tmpfs: "cold" is still memory).
// docs/store-format.md describes the file. put and release are thread-safe; get needs no lock: who asks holds
// the page's block lock in the pager, so the slot cannot be released meanwhile.

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/page.h"
#include "memory/page_codec.h"
#include "memory/slot_allocator.h"

namespace thermocline::memory {

/// What a page contained: 96 bits of XXH3-128, seeded with the page's number. Kept in front of each slot; so
/// a slot that is damaged, or another page's, is found out, and a page that comes to the store again is known
/// to be unchanged without compressing it.
struct ContentHash {
    std::array<std::uint32_t, 3> words{};

    static ContentHash of(PageNumber number, PageBytes page);
    friend bool operator==(const ContentHash&, const ContentHash&) = default;
};

class ColdStore {
  public:
    /// An empty store in a new file `path` (mode 0600) for at most `maxBytes` of slots.
    static Result<std::unique_ptr<ColdStore>> create(const std::string& path, std::uint64_t maxBytes);
    /// What another manager left in `path`; every slot is to be claim()ed, then endClaims(). Error:
    /// systemError where it is damaged.
    static Result<std::unique_ptr<ColdStore>> open(const std::string& path, std::uint64_t maxBytes);
    /// The slot is in use. False where it cannot be (SlotAllocator::claim). What it holds is not looked at:
    /// get() does, each time.
    bool claim(Slot slot);
    /// Gives back what was not claimed.
    void endClaims();
    ~ColdStore();
    ColdStore(const ColdStore&) = delete;
    ColdStore& operator=(const ColdStore&) = delete;

    /// Writes one page's compressed bytes, or all of its bytes as they are. Error: outOfMemory where the file
    /// system or the arena is full.
    Result<Slot> put(PageNumber page, const ContentHash& content, std::span<const std::byte> compressed,
                     Algorithm algorithm);
    /// Reads and decompresses. Error: systemError where the slot does not hold the bytes that put() wrote for
    /// this page; `into` is then not to be used.
    Result<void> get(PageNumber page, Slot slot, PageCodec& codec, MutablePageBytes into) const;
    /// A slot as it lies there, until it is released: for another tier, which gives it to decode() or
    /// adopt().
    [[nodiscard]] std::span<const std::byte> bytesOf(Slot slot) const;
    /// As get(), of a slot's bytes that are elsewhere.
    static Result<void> decode(PageNumber page, std::span<const std::byte> slotBytes, PageCodec& codec,
                               MutablePageBytes into);
    /// Takes a slot's bytes back. Error: as put().
    Result<Slot> adopt(std::span<const std::byte> slotBytes);
    /// What a slot holds, and how it is compressed.
    [[nodiscard]] ContentHash contentOf(Slot slot) const;
    [[nodiscard]] Algorithm algorithmOf(Slot slot) const;
    /// Does it hold a page as it is, because it does not compress?
    [[nodiscard]] static bool asItIs(Slot slot) { return slot.bytes > pageBytes; }
    void release(Slot slot);
    /// Gives back memory that is kept for quick reuse.
    void trim();
    /// Is so much of the arena empty, a twentieth of what it holds and 1.5 MiB, that compaction is worth it?
    [[nodiscard]] bool sparse() const;
    /// One step of compaction: the pages of the emptiest slab are shown to `move(page, slot)`, which has the
    /// slot copied by adopt(), publishes that and releases `slot`, or leaves it. False where nothing could be
    /// saved. One thread at a time, the one that puts.
    bool compact(const std::function<void(PageNumber, Slot)>& move);

    [[nodiscard]] std::uint64_t storedBytes() const;  ///< memory that the file takes
    [[nodiscard]] std::uint64_t slotBytes() const;    ///< of it, bytes in slots
    [[nodiscard]] std::uint64_t metadataBytes() const;

  private:
    ColdStore(UniqueFd file, std::string path, std::byte* arena, std::uint64_t maxBytes);
    [[nodiscard]] bool acquireSlab(std::uint64_t offset);
    void releaseSlab(std::uint64_t offset);

    UniqueFd file_;
    std::string path_;
    std::byte* arena_;  // all of the file; slabs that are not acquired are holes and never looked at
    std::uint64_t maxBytes_;
    mutable std::mutex mutex_;  // guards allocator_
    SlotAllocator allocator_;
};

}  // namespace thermocline::memory
