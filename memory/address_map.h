// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which page number stands for which address of the VM's process. Each range of guest RAM starts a new block,
// at the page within the block that its address has within 2 MiB, so that huge pages line up in guest RAM and
// staging area alike. Page numbers never change; addresses may (mremap) and may end (munmap). Not
// thread-safe: guarded by the pager's layout lock.

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "memory/page.h"

namespace thermocline::memory {

class AddressMap {
  public:
    struct Extent {
        VmAddress start;
        PageNumber first = 0;
        std::uint64_t pages = 0;

        [[nodiscard]] VmAddress end() const { return start + pages * pageBytes; }
        [[nodiscard]] VmRange range() const { return {start, pages * pageBytes}; }
    };

    /// REQUIRES: page-aligned ranges that do not overlap.
    explicit AddressMap(const std::vector<VmRange>& ranges);
    /// As another map was: its extents() and blocks().
    AddressMap(std::vector<Extent> extents, std::uint64_t blocks)
        : extents_(std::move(extents)), blocks_(blocks) {}

    /// Size of the page number space, in blocks (the first and last may be partly unused).
    [[nodiscard]] std::uint64_t blocks() const { return blocks_; }
    /// Pages of guest RAM that are mapped now.
    [[nodiscard]] std::uint64_t pages() const;
    [[nodiscard]] std::optional<PageNumber> pageAt(VmAddress address) const;
    [[nodiscard]] std::optional<VmAddress> addressOf(PageNumber page) const;
    /// Address of a block's first page where all its 512 pages are mapped as one aligned piece: where a huge
    /// page can be.
    [[nodiscard]] std::optional<VmAddress> wholeBlock(BlockNumber block) const;
    /// In page number order.
    [[nodiscard]] const std::vector<Extent>& extents() const { return extents_; }
    /// The parts of `range` that are guest RAM.
    [[nodiscard]] std::vector<Extent> within(VmRange range) const;

    void unmap(VmRange range);
    void remap(VmRange from, VmAddress to);

  private:
    std::vector<Extent> extents_;
    std::uint64_t blocks_ = 0;
};

}  // namespace thermocline::memory
