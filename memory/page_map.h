// SPDX-License-Identifier: Apache-2.0
#pragma once

// What we know of every page of a VM: 8 bytes each, in a file of the VM's state directory, so that it
// outlives the manager.
//
//   absent    never touched, or given back by the guest: a fault gets zeros. Never evicted: where the kernel
//   has yet to act on a
//             REMOVE the page may still be there, with bytes that the guest has given up.
//   resident  in guest RAM
//   staged    moved aside into the staging area, whole and unchanged
//   cold      compressed in the store, at `slot`
//   filled    one 32-bit word, repeated: needs no slot
//
//   fault        absent -> resident          staged -> resident      cold, filled -> resident
//   background   resident -> staged          staged -> cold, filled
//   REMOVE       any -> absent
//
// An entry may be written only under its block's lock in the pager; counters may be read by any thread.

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/page.h"
#include "memory/slot_allocator.h"

namespace thermocline::memory {

enum class PageState : std::uint8_t { absent, resident, staged, cold, filled };

/// One page's entry: state, and what finds its content.
class alignas(8) PageEntry {
  public:
    constexpr PageEntry() = default;
    static constexpr PageEntry absent() { return PageEntry(PageState::absent, 0); }
    static constexpr PageEntry resident() { return PageEntry(PageState::resident, 0); }
    /// `incompressible`: was tried, and the store would save nothing.
    static constexpr PageEntry staged(bool incompressible = false) {
        return PageEntry(PageState::staged, incompressible ? 1 : 0);
    }
    static constexpr PageEntry cold(Slot slot) {
        return PageEntry(PageState::cold, slot.granule << lengthBits | slot.bytes);
    }
    static constexpr PageEntry filled(std::uint32_t word) { return PageEntry(PageState::filled, word); }

    [[nodiscard]] constexpr PageState state() const { return static_cast<PageState>(raw_ & stateMask); }
    [[nodiscard]] constexpr bool incompressible() const {
        return state() == PageState::staged && payload() != 0;
    }
    [[nodiscard]] constexpr Slot slot() const {
        return {payload() >> lengthBits, static_cast<std::uint32_t>(payload() & ((1U << lengthBits) - 1))};
    }
    [[nodiscard]] constexpr std::uint32_t fillWord() const { return static_cast<std::uint32_t>(payload()); }
    friend constexpr bool operator==(PageEntry, PageEntry) = default;

  private:
    static constexpr unsigned stateBits = 3;
    static constexpr unsigned lengthBits = 13;
    static constexpr std::uint64_t stateMask = (1U << stateBits) - 1;
    constexpr PageEntry(PageState state, std::uint64_t payload)
        : raw_(payload << stateBits | static_cast<std::uint64_t>(state)) {}
    [[nodiscard]] constexpr std::uint64_t payload() const { return raw_ >> stateBits; }

    std::uint64_t raw_ = 0;
};
static_assert(sizeof(PageEntry) == 8);

class PageMap {
  public:
    /// A map of `blocks` blocks, all absent, in a new file `path` (mode 0600). Error: systemError.
    static Result<PageMap> create(const std::string& path, std::uint64_t blocks);
    PageMap(PageMap&& other) noexcept;
    PageMap& operator=(PageMap&&) = delete;
    ~PageMap();

    [[nodiscard]] PageEntry get(PageNumber page) const { return entries_[page]; }
    /// Without the block's lock: true a moment ago.
    [[nodiscard]] PageEntry peek(PageNumber page) const {
        return std::atomic_ref(entries_[page]).load(std::memory_order_relaxed);
    }
    void set(PageNumber page, PageEntry entry) { setAll(page, 1, entry); }
    /// The same entry for `count` pages.
    void setAll(PageNumber first, std::uint64_t count, PageEntry entry);

    [[nodiscard]] std::uint64_t count(PageState state) const {
        return counts_[static_cast<std::size_t>(state)].load(std::memory_order_relaxed);
    }
    /// Pages of `block` in `state`.
    [[nodiscard]] BlockMask pagesIn(BlockNumber block, PageState state) const;
    [[nodiscard]] std::uint64_t blocks() const { return blocks_; }
    [[nodiscard]] std::uint64_t metadataBytes() const { return blocks_ * pagesPerBlock * sizeof(PageEntry); }

  private:
    PageMap(UniqueFd file, PageEntry* entries, std::uint64_t blocks);

    UniqueFd file_;
    PageEntry* entries_;
    std::uint64_t blocks_;
    std::array<std::atomic<std::uint64_t>, 5> counts_{};
};

}  // namespace thermocline::memory
