// SPDX-License-Identifier: Apache-2.0
#pragma once

// The loop that touches memory, the same machine code for a process and for a KVM guest:
// position-independent, in a section of its own, with nothing but the batch and what it points to. Plain data
// and a plain function.

#include <cstddef>
#include <cstdint>
#include <span>

namespace thermocline::bench {

inline constexpr std::uint64_t pageBytes = 4096;
inline constexpr std::uint32_t writeFlag = 1U << 31;  ///< in an entry: read the page's tag, then write it
inline constexpr std::uint64_t sampleInterval = 17;   ///< every so many accesses is timed: prime, so that no
                                                     ///< stride always hits or always misses the sampled ones

/// Addresses are as the code that runs sees them (guest addresses in a guest).
struct AccessBatch {
    std::uint64_t ram = 0;       ///< page 0
    std::uint64_t expected = 0;  ///< std::uint64_t per page: the tag that it must hold
    std::uint64_t entries = 0;   ///< std::uint32_t per access: page number, perhaps with writeFlag
    std::uint64_t samples = 0;   ///< std::uint32_t per timed access, in TSC cycles
    std::uint64_t count = 0;
    std::uint64_t sampleCount = 0;  ///< out
    std::uint64_t wrong = 0;        ///< out: tags that were not the expected one
    std::uint64_t lastWrong = 0;    ///< out: page of the last of them
};

/// Where in its page a tag is: not always in the same cache set.
[[gnu::always_inline]] constexpr std::uint64_t tagOffset(std::uint64_t page) {
    return ((page * 0x9e3779b1U) >> 7 & 511) * 8;
}

/// The tag of a page after a write: the page's number and a count, so that a page in the wrong place and a
/// lost write both show.
[[gnu::always_inline]] constexpr std::uint64_t nextTag(std::uint64_t page, std::uint64_t tag) {
    return (page + 1) << 32 | ((tag + 1) & 0xffffffffU);
}

extern "C" void thermoclineBenchAccess(AccessBatch* batch);

/// For a guest: machine code, and where in it to start with rdi = the batch and a stack. It runs the batch,
/// writes a byte to port 0x10, and starts over when it is entered again.
struct GuestCode {
    std::span<const std::byte> bytes;
    std::size_t entry = 0;
};
GuestCode guestCode();

}  // namespace thermocline::bench
