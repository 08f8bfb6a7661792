// SPDX-License-Identifier: Apache-2.0
#include "bench/subject/batch_area.h"

#include <new>

namespace thermocline::bench {
namespace {

constexpr std::uint64_t entriesAt = 256;
constexpr std::uint64_t samplesAt = entriesAt + BatchArea::batchAccesses * 4;
constexpr std::uint64_t expectedAt = samplesAt + (BatchArea::batchAccesses / sampleInterval + 2) / 2 * 8;
static_assert(sizeof(AccessBatch) <= entriesAt && expectedAt % 8 == 0);

}  // namespace

std::uint64_t BatchArea::bytesFor(std::uint64_t pages) {
    return expectedAt + pages * 8;
}

BatchArea::BatchArea(std::byte* memory, std::uint64_t addressInBatch, std::uint64_t ram, std::uint64_t pages)
    : batch_(new (memory) AccessBatch),
      address_(addressInBatch),
      expected_(reinterpret_cast<std::uint64_t*>(memory + expectedAt), pages),
      entries_(reinterpret_cast<std::uint32_t*>(memory + entriesAt), batchAccesses),
      samples_(reinterpret_cast<std::uint32_t*>(memory + samplesAt)) {
    batch_->ram = ram;
    batch_->expected = addressInBatch + expectedAt;
    batch_->entries = addressInBatch + entriesAt;
    batch_->samples = addressInBatch + samplesAt;
    batch_->count = batchAccesses;
}

}  // namespace thermocline::bench
