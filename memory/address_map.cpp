// SPDX-License-Identifier: Apache-2.0
#include "memory/address_map.h"

#include <algorithm>

namespace thermocline::memory {

AddressMap::AddressMap(const std::vector<VmRange>& ranges) {
    for (const auto& range : ranges) {
        const PageNumber first = firstPageOf(blocks_) + range.start.value % blockBytes / pageBytes;
        extents_.push_back({range.start, first, range.bytes / pageBytes});
        blocks_ = blockOf(first + extents_.back().pages - 1) + 1;
    }
}

std::uint64_t AddressMap::pages() const {
    std::uint64_t sum = 0;
    for (const auto& extent : extents_)
        sum += extent.pages;
    return sum;
}

std::optional<PageNumber> AddressMap::pageAt(VmAddress address) const {
    for (const auto& extent : extents_)
        if (address >= extent.start && address < extent.end())
            return extent.first + (address - extent.start) / pageBytes;
    return std::nullopt;
}

std::optional<VmAddress> AddressMap::addressOf(PageNumber page) const {
    for (const auto& extent : extents_)
        if (page >= extent.first && page - extent.first < extent.pages)
            return extent.start + (page - extent.first) * pageBytes;
    return std::nullopt;
}

std::optional<VmAddress> AddressMap::wholeBlock(BlockNumber block) const {
    const auto first = firstPageOf(block);
    for (const auto& extent : extents_) {
        if (first < extent.first || first + pagesPerBlock > extent.first + extent.pages) continue;
        const auto address = extent.start + (first - extent.first) * pageBytes;
        if (address.value % blockBytes == 0) return address;
    }
    return std::nullopt;
}

std::vector<AddressMap::Extent> AddressMap::within(VmRange range) const {
    std::vector<Extent> parts;
    for (const auto& extent : extents_) {
        const auto start = std::max(extent.start, range.start);
        const auto end = std::min(extent.end(), range.end());
        if (start < end)
            parts.push_back(
                {start, extent.first + (start - extent.start) / pageBytes, (end - start) / pageBytes});
    }
    return parts;
}

void AddressMap::unmap(VmRange range) {
    std::vector<Extent> kept;
    for (const auto& extent : extents_) {
        const auto cutStart = std::clamp(range.start, extent.start, extent.end());
        const auto cutEnd = std::clamp(range.end(), extent.start, extent.end());
        if (cutStart >= cutEnd) {
            kept.push_back(extent);
            continue;
        }
        if (cutStart > extent.start)
            kept.push_back({extent.start, extent.first, (cutStart - extent.start) / pageBytes});
        if (cutEnd < extent.end())
            kept.push_back({cutEnd, extent.first + (cutEnd - extent.start) / pageBytes,
                            (extent.end() - cutEnd) / pageBytes});
    }
    extents_ = std::move(kept);
}

void AddressMap::remap(VmRange from, VmAddress to) {
    auto moved = within(from);
    unmap(from);
    for (auto& extent : moved) {
        extent.start = to + (extent.start - from.start);
        extents_.push_back(extent);
    }
    std::sort(extents_.begin(), extents_.end(),
              [](const Extent& a, const Extent& b) { return a.first < b.first; });
}

}  // namespace thermocline::memory
