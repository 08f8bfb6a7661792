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
//             A resident or staged page that came from there may still have its slot: while memory for it
//             is to be had, a page that goes back unchanged need not be compressed again.
//   filled    one 32-bit word, repeated: needs no slot
//   frozen    in the file tier, at `frozenSlot`
//
//   fault        absent -> resident   staged -> resident         cold, filled, frozen -> resident
//   background   resident -> staged   staged -> cold, filled, frozen   cold -> frozen   frozen -> cold
//   REMOVE       any -> absent
//
// An entry may be written only under its block's lock in the pager; counters may be read by any thread.

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/frozen_segments.h"
#include "memory/page.h"
#include "memory/slot_allocator.h"

namespace thermocline::memory {

enum class PageState : std::uint8_t { absent, resident, staged, cold, filled, frozen };
inline constexpr std::size_t pageStates = 6;

/// How often a page is left alone by the clock's hand (an age-based clock, as in GCLOCK): each time that it
/// is touched while staged its level rises, and it is passed over 2^level - 1 times before it is staged
/// again.
struct Heat {
    static constexpr unsigned maxLevel = 3;
    unsigned level = 0;  ///< 0 to maxLevel
    unsigned skip = 0;   ///< times left to be passed over, 0 to 7

    /// After a touch while staged.
    [[nodiscard]] constexpr Heat touched() const {
        const auto next = level < maxLevel ? level + 1 : maxLevel;
        return {next, (1U << next) - 1};
    }
    friend constexpr bool operator==(Heat, Heat) = default;
};

/// One page's entry: state, and what finds its content.
class alignas(8) PageEntry {
  public:
    constexpr PageEntry() = default;
    static constexpr PageEntry absent() { return PageEntry(PageState::absent, 0); }
    /// `copy`: a slot with the page's content of some time ago; Slot{} where there is none.
    static constexpr PageEntry resident(Heat heat = {}, Slot copy = {}) {
        return PageEntry(PageState::resident, heatBits(heat) | slotBits(copy));
    }
    static constexpr PageEntry staged(unsigned heatLevel = 0, Slot copy = {}) {
        return PageEntry(PageState::staged, heatBits({heatLevel, 0}) | slotBits(copy));
    }
    static constexpr PageEntry cold(Slot slot) { return PageEntry(PageState::cold, slotBits(slot)); }
    static constexpr PageEntry filled(std::uint32_t word) { return PageEntry(PageState::filled, word); }
    static constexpr PageEntry frozen(FrozenSlot slot) { return PageEntry(PageState::frozen, slot.packed()); }

    [[nodiscard]] constexpr PageState state() const { return static_cast<PageState>(raw_ & stateMask); }
    /// Cold or filled: only the store has it, and gives it at once.
    [[nodiscard]] constexpr bool stored() const {
        return state() == PageState::cold || state() == PageState::filled;
    }
    /// Of a resident or staged page: was tried, and the store would save nothing.
    [[nodiscard]] constexpr bool incompressible() const {
        return (state() == PageState::resident || state() == PageState::staged) &&
               (payload() >> incompressibleShift & 1) != 0;
    }
    /// The same, found to be so or not. REQUIRES: resident or staged.
    [[nodiscard]] constexpr PageEntry asIncompressible(bool is = true) const {
        constexpr auto bit = std::uint64_t{1} << incompressibleShift;
        return PageEntry(state(), (payload() & ~bit) | (is ? bit : 0));
    }
    /// Of a resident or staged page.
    [[nodiscard]] constexpr Heat heat() const {
        return {static_cast<unsigned>(payload() >> levelShift & 3),
                static_cast<unsigned>(payload() >> skipShift & 7)};
    }
    /// Of a cold page; of a resident or staged one its copy. No bytes: none.
    [[nodiscard]] constexpr Slot slot() const {
        if (state() == PageState::filled || state() == PageState::frozen) return {};
        return {payload() >> lengthBits & ((std::uint64_t{1} << granuleBits) - 1),
                static_cast<std::uint32_t>(payload() & ((1U << lengthBits) - 1))};
    }
    /// Of a frozen page.
    [[nodiscard]] constexpr FrozenSlot frozenSlot() const { return FrozenSlot::unpacked(payload()); }
    /// The same with another slot. REQUIRES: resident, staged or cold.
    [[nodiscard]] constexpr PageEntry withSlot(Slot slot) const {
        constexpr auto mask = (std::uint64_t{1} << (lengthBits + granuleBits)) - 1;
        return PageEntry(state(), (payload() & ~mask) | slotBits(slot));
    }
    [[nodiscard]] constexpr std::uint32_t fillWord() const { return static_cast<std::uint32_t>(payload()); }
    friend constexpr bool operator==(PageEntry, PageEntry) = default;

  private:
    static constexpr unsigned stateBits = 3;
    static constexpr unsigned lengthBits = 13;
    static constexpr unsigned granuleBits = 36;  // arenas of up to 4 TiB
    static constexpr unsigned levelShift = lengthBits + granuleBits;
    static constexpr unsigned skipShift = levelShift + 2;
    static constexpr unsigned incompressibleShift = skipShift + 3;
    static constexpr std::uint64_t stateMask = (1U << stateBits) - 1;
    static constexpr std::uint64_t slotBits(Slot slot) { return slot.granule << lengthBits | slot.bytes; }
    static constexpr std::uint64_t heatBits(Heat heat) {
        return std::uint64_t{heat.level} << levelShift | std::uint64_t{heat.skip} << skipShift;
    }
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
    /// What another manager left in `path`, unchanged. Error: systemError where it is damaged.
    static Result<PageMap> open(const std::string& path, std::uint64_t blocks);
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
    [[nodiscard]] bool recount();

    UniqueFd file_;
    PageEntry* entries_;
    std::uint64_t blocks_;
    std::array<std::atomic<std::uint64_t>, pageStates> counts_{};
};

}  // namespace thermocline::memory
