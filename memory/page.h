// SPDX-License-Identifier: Apache-2.0
#pragma once

// The units of the engine. A VM's guest RAM is numbered in pages of 4 KiB, grouped into blocks of 2 MiB (the
// size of a huge page). Page numbers are ours: they index the page map, the staging area and the store alike.

#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>

#include "memory/agent/agent_protocol.h"

namespace thermocline::memory {

inline constexpr std::size_t pageBytes = THERMOCLINE_PAGE_BYTES;
inline constexpr std::size_t pagesPerBlock = std::size_t{THERMOCLINE_WORDS_PER_BLOCK} * 64;
inline constexpr std::size_t blockBytes = pageBytes * pagesPerBlock;

constexpr std::uint64_t roundUp(std::uint64_t value, std::uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

using PageNumber = std::uint64_t;
using BlockNumber = std::uint64_t;

constexpr BlockNumber blockOf(PageNumber page) {
    return page / pagesPerBlock;
}
constexpr PageNumber firstPageOf(BlockNumber block) {
    return block * pagesPerBlock;
}

/// An address in the VM's process; never to be mixed up with a pointer of ours.
struct VmAddress {
    std::uint64_t value = 0;

    friend constexpr auto operator<=>(VmAddress, VmAddress) = default;
    friend constexpr VmAddress operator+(VmAddress at, std::uint64_t bytes) { return {at.value + bytes}; }
    friend constexpr std::uint64_t operator-(VmAddress a, VmAddress b) { return a.value - b.value; }
};

/// A run of bytes in the VM's process.
struct VmRange {
    VmAddress start;
    std::uint64_t bytes = 0;

    [[nodiscard]] constexpr VmAddress end() const { return start + bytes; }
    friend constexpr bool operator==(const VmRange&, const VmRange&) = default;
};

/// One bit for each page of a block.
class BlockMask {
  public:
    using Words = std::array<std::uint64_t, THERMOCLINE_WORDS_PER_BLOCK>;

    constexpr void set(std::size_t page) { words_[page / 64] |= bit(page); }
    constexpr void clear(std::size_t page) { words_[page / 64] &= ~bit(page); }
    [[nodiscard]] constexpr bool test(std::size_t page) const { return (words_[page / 64] & bit(page)) != 0; }
    [[nodiscard]] constexpr bool any() const {
        for (const auto word : words_)
            if (word != 0) return true;
        return false;
    }
    [[nodiscard]] constexpr std::size_t count() const {
        std::size_t n = 0;
        for (const auto word : words_)
            n += static_cast<std::size_t>(std::popcount(word));
        return n;
    }
    /// Calls `visit(page)` for each page that is set, lowest first.
    template <typename Visit>
    constexpr void forEach(Visit&& visit) const {
        for (std::size_t w = 0; w < words_.size(); ++w)
            for (auto word = words_[w]; word != 0; word &= word - 1)
                visit(w * 64 + static_cast<std::size_t>(std::countr_zero(word)));
    }
    /// Calls `visit(first, count)` for each run of consecutive pages that are set.
    template <typename Visit>
    constexpr void forEachRun(Visit&& visit) const {
        for (std::size_t first = 0; first < pagesPerBlock;) {
            if (!test(first)) {
                ++first;
                continue;
            }
            std::size_t end = first + 1;
            while (end < pagesPerBlock && test(end))
                ++end;
            visit(first, end - first);
            first = end;
        }
    }
    constexpr BlockMask& operator|=(const BlockMask& other) {
        for (std::size_t w = 0; w < words_.size(); ++w)
            words_[w] |= other.words_[w];
        return *this;
    }
    constexpr BlockMask& operator&=(const BlockMask& other) {
        for (std::size_t w = 0; w < words_.size(); ++w)
            words_[w] &= other.words_[w];
        return *this;
    }
    /// Without the pages of `other`.
    constexpr BlockMask& operator-=(const BlockMask& other) {
        for (std::size_t w = 0; w < words_.size(); ++w)
            words_[w] &= ~other.words_[w];
        return *this;
    }
    [[nodiscard]] constexpr Words& words() { return words_; }
    [[nodiscard]] constexpr const Words& words() const { return words_; }

    friend constexpr bool operator==(const BlockMask&, const BlockMask&) = default;

  private:
    static constexpr std::uint64_t bit(std::size_t page) { return std::uint64_t{1} << (page % 64); }
    Words words_{};
};

/// The mask of a whole block.
constexpr BlockMask allPages() {
    BlockMask mask;
    mask.words().fill(~std::uint64_t{0});
    return mask;
}

}  // namespace thermocline::memory
