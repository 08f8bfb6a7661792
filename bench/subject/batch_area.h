// SPDX-License-Identifier: Apache-2.0
#pragma once

// The memory beside guest RAM that a batch works with: the batch itself, its entries, its samples, and the
// tag that each page must hold. Not thread-safe.

#include <cstddef>
#include <cstdint>
#include <span>

#include "bench/subject/access_batch.h"

namespace thermocline::bench {

class BatchArea {
  public:
    static constexpr std::size_t batchAccesses = 4096;

    /// Bytes that an area for so many pages of guest RAM takes.
    static std::uint64_t bytesFor(std::uint64_t pages);

    /// `memory`: bytesFor(pages) bytes of zeros, aligned to 8; outlives the area. `addressInBatch`: the
    /// address of `memory` as the code that runs sees it; `ram`: that of page 0.
    BatchArea(std::byte* memory, std::uint64_t addressInBatch, std::uint64_t ram, std::uint64_t pages);

    [[nodiscard]] AccessBatch& batch() const { return *batch_; }
    [[nodiscard]] std::uint64_t batchAddress() const { return address_; }
    [[nodiscard]] std::span<std::uint64_t> expected() const { return expected_; }
    [[nodiscard]] std::span<std::uint32_t> entries() const { return entries_; }
    /// Those of the last run.
    [[nodiscard]] std::span<const std::uint32_t> samples() const { return {samples_, batch_->sampleCount}; }

  private:
    AccessBatch* batch_;
    std::uint64_t address_;
    std::span<std::uint64_t> expected_;
    std::span<std::uint32_t> entries_;
    std::uint32_t* samples_;
};

}  // namespace thermocline::bench
