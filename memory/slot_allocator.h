// SPDX-License-Identifier: Apache-2.0
#pragma once

// Hands out slots of variable size in a file: slabs of 64 KiB, each cut into slots of one size class
// (multiples of 64 bytes, as zsmalloc and slab allocators do), the most recently used slab of a class first;
// a slab whose last slot is freed serves any class again. Knows numbers only: the file is the store's. Not
// thread-safe.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace thermocline::memory {

/// A place in the arena: offset in granules of 64 bytes, and how many bytes are used there.
struct Slot {
    std::uint64_t granule = 0;
    std::uint32_t bytes = 0;

    [[nodiscard]] constexpr std::uint64_t offset() const { return granule * 64; }
    friend constexpr bool operator==(Slot, Slot) = default;
};

class SlotAllocator {
  public:
    static constexpr std::uint64_t granuleBytes = 64;
    static constexpr std::uint64_t slabBytes = 65536;
    static constexpr std::uint32_t maxSlotBytes = 4096 + 64;
    /// Empty slabs kept for quick reuse; more than that are given back.
    static constexpr std::size_t emptySlabsKept = 16;

    /// What stands behind the slabs; both get a slab's offset.
    struct Backing {
        std::function<bool(std::uint64_t)> acquire;  ///< its bytes are about to be used; false: no memory
        std::function<void(std::uint64_t)> release;  ///< its bytes are no longer needed
    };
    /// `maxSlabs` bounds the arena.
    SlotAllocator(std::uint64_t maxSlabs, Backing backing);

    /// A slot of `bytes` (1 to maxSlotBytes); nothing where the arena or the memory behind it is full.
    std::optional<Slot> allocate(std::uint32_t bytes);
    /// REQUIRES: a slot that allocate() returned and that was not freed since.
    void free(Slot slot);
    /// Opening a store again: `slot` is in use already. False where it cannot be: out of bounds, no place
    /// that allocate() gives, in a slab of another class, or taken. REQUIRES: nothing was allocated yet.
    bool claim(Slot slot);
    /// All were claimed: what was not is free. Returns the runs of bytes (offset, length) without a slot,
    /// which are not acquired: memory that is behind them is to be given back.
    std::vector<std::pair<std::uint64_t, std::uint64_t>> endClaims();
    /// Takes the emptiest slab out of use, where the others of its class have room for all that it holds: no
    /// slot is handed out in it, and it is not given back, until putBack(). Nothing where no slab could be
    /// saved.
    std::optional<std::uint32_t> isolate();
    /// The slots of a slab. Slots know their place, not how many bytes are used there: `bytes` is the
    /// class's.
    [[nodiscard]] std::vector<Slot> slotsIn(std::uint32_t slab) const;
    /// Ends isolate(): the slab is empty by now, or in use again.
    void putBack(std::uint32_t slab);
    /// Gives back the empty slabs that are kept.
    void trim();

    [[nodiscard]] std::uint64_t usedBytes() const { return usedBytes_; }  ///< sum of the slots' bytes
    [[nodiscard]] std::uint64_t slabBytesInUse() const { return slabsInUse_ * slabBytes; }
    [[nodiscard]] std::uint64_t metadataBytes() const { return slabs_.capacity() * sizeof(Slab); }

  private:
    static constexpr std::uint32_t none = UINT32_MAX;
    static constexpr std::size_t classCount = maxSlotBytes / granuleBytes;
    struct Slab {
        std::uint16_t granulesPerSlot = 0;
        std::uint16_t used = 0;
        bool isolated = false;
        std::uint32_t previous = none;  // among the slabs of its class that have room
        std::uint32_t next = none;
        std::array<std::uint64_t, slabBytes / granuleBytes / 64> taken{};
    };

    std::optional<std::uint32_t> takeSlab();
    void retire(std::uint32_t slab);
    void link(std::uint32_t slab);
    void unlink(std::uint32_t slab);
    [[nodiscard]] static std::uint32_t slotsPerSlab(const Slab& slab);
    std::uint32_t& head(const Slab& slab) { return partial_[slab.granulesPerSlot - 1U]; }

    std::uint64_t maxSlabs_;
    Backing backing_;
    std::vector<Slab> slabs_;
    std::array<std::uint32_t, classCount> partial_;
    std::vector<std::uint32_t> empty_;     // acquired, without slots
    std::vector<std::uint32_t> released_;  // given back
    std::size_t compactedClass_ = 0;
    std::uint64_t usedBytes_ = 0;
    std::uint64_t slabsInUse_ = 0;  // including the empty ones that are kept
};

}  // namespace thermocline::memory
