// SPDX-License-Identifier: Apache-2.0
#pragma once

// Linux interfaces that are newer than the headers of the oldest distribution we build on (Debian 12: 6.1).
// Names and layouts are the kernel's own (linux/userfaultfd.h of 6.8, linux/fs.h of 6.7).

#include <linux/ioctl.h>
#include <linux/types.h>

#include <cstdint>

namespace thermocline::memory::abi {

inline constexpr std::uint64_t uffdFeatureMove = 1ULL << 16;

inline constexpr int madviseCollapse = 25;  // MADV_COLLAPSE, Linux 6.1

struct UffdioMove {
    std::uint64_t destination;
    std::uint64_t source;
    std::uint64_t length;
    std::uint64_t mode;
    std::int64_t moved;
};
inline constexpr unsigned long uffdioMove = _IOWR(0xAA, 0x05, UffdioMove);

struct PageRegion {
    std::uint64_t start;
    std::uint64_t end;
    std::uint64_t categories;
};
struct PagemapScanArgument {
    std::uint64_t size;
    std::uint64_t flags;
    std::uint64_t start;
    std::uint64_t end;
    std::uint64_t walkEnd;
    std::uint64_t regions;
    std::uint64_t regionCount;
    std::uint64_t maxPages;
    std::uint64_t categoryInverted;
    std::uint64_t categoryMask;
    std::uint64_t categoryAnyOf;
    std::uint64_t returnMask;
};
inline constexpr unsigned long pagemapScan = _IOWR('f', 16, PagemapScanArgument);
inline constexpr std::uint64_t pageIsPresent = 1U << 3;
inline constexpr std::uint64_t pageIsSwapped = 1U << 4;
inline constexpr std::uint64_t pageIsHuge = 1U << 6;

}  // namespace thermocline::memory::abi
