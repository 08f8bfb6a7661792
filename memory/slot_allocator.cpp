// SPDX-License-Identifier: Apache-2.0
#include "memory/slot_allocator.h"

#include <bit>
#include <cassert>
#include <utility>

namespace thermocline::memory {

SlotAllocator::SlotAllocator(std::uint64_t maxSlabs, Backing backing)
    : maxSlabs_(maxSlabs), backing_(std::move(backing)) {
    partial_.fill(none);
}

std::uint32_t SlotAllocator::slotsPerSlab(const Slab& slab) {
    return static_cast<std::uint32_t>(slabBytes / granuleBytes) / slab.granulesPerSlot;
}

std::optional<Slot> SlotAllocator::allocate(std::uint32_t bytes) {
    assert(bytes > 0 && bytes <= maxSlotBytes);
    const auto granules = (bytes + granuleBytes - 1) / granuleBytes;
    std::uint32_t index = partial_[granules - 1];
    if (index == none) {
        const auto taken = takeSlab();
        if (!taken) return std::nullopt;
        index = *taken;
        slabs_[index] = {};
        slabs_[index].granulesPerSlot = static_cast<std::uint16_t>(granules);
        link(index);
    }
    auto& slab = slabs_[index];
    const auto slots = slotsPerSlab(slab);
    for (std::uint32_t word = 0; word * 64 < slots; ++word) {
        const auto bit = static_cast<std::uint32_t>(std::countr_one(slab.taken[word]));
        const auto slot = word * 64 + bit;
        if (bit == 64 || slot >= slots) continue;
        slab.taken[word] |= std::uint64_t{1} << bit;
        if (++slab.used == slots) unlink(index);
        usedBytes_ += bytes;
        return Slot{index * (slabBytes / granuleBytes) + slot * granules, bytes};
    }
    assert(false && "a slab in the list of those with room has none");
    return std::nullopt;
}

bool SlotAllocator::claim(Slot slot) {
    if (slot.bytes == 0 || slot.bytes > maxSlotBytes) return false;
    const auto granules = (slot.bytes + granuleBytes - 1) / granuleBytes;
    const auto index = slot.offset() / slabBytes;
    if (index >= maxSlabs_) return false;
    if (index >= slabs_.size()) slabs_.resize(index + 1);
    auto& slab = slabs_[index];
    const auto within = slot.granule % (slabBytes / granuleBytes);
    if (slab.granulesPerSlot != 0 && slab.granulesPerSlot != granules) return false;
    if (within % granules != 0 || within / granules >= slabBytes / granuleBytes / granules) return false;
    const auto number = within / granules;
    if ((slab.taken[number / 64] >> (number % 64) & 1) != 0) return false;
    if (slab.granulesPerSlot == 0) ++slabsInUse_;
    slab.granulesPerSlot = static_cast<std::uint16_t>(granules);
    slab.taken[number / 64] |= std::uint64_t{1} << (number % 64);
    ++slab.used;
    usedBytes_ += slot.bytes;
    return true;
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> SlotAllocator::endClaims() {
    for (std::uint32_t index = 0; index < slabs_.size(); ++index) {
        auto& slab = slabs_[index];
        if (slab.granulesPerSlot == 0)
            released_.push_back(index);
        else if (slab.used < slotsPerSlab(slab))
            link(index);
    }
    std::vector<std::pair<std::uint64_t, std::uint64_t>> runs;
    const auto empty = [&](std::uint64_t index) {
        return index >= slabs_.size() || slabs_[index].granulesPerSlot == 0;
    };
    for (std::uint64_t index = 0; index < maxSlabs_;) {
        auto end = index;
        while (end < maxSlabs_ && empty(end))
            ++end;
        if (end > index) runs.emplace_back(index * slabBytes, (end - index) * slabBytes);
        index = end + 1;
    }
    return runs;
}

/// A slab without slots, acquired.
std::optional<std::uint32_t> SlotAllocator::takeSlab() {
    if (!empty_.empty()) {
        const auto index = empty_.back();
        empty_.pop_back();
        return index;
    }
    if (released_.empty()) {
        if (slabs_.size() >= maxSlabs_) return std::nullopt;
        released_.push_back(static_cast<std::uint32_t>(slabs_.size()));
        slabs_.emplace_back();
    }
    const auto index = released_.back();
    if (!backing_.acquire(index * slabBytes)) return std::nullopt;
    released_.pop_back();
    ++slabsInUse_;
    return index;
}

void SlotAllocator::free(Slot slot) {
    const auto index = static_cast<std::uint32_t>(slot.offset() / slabBytes);
    auto& slab = slabs_[index];
    const auto number = slot.granule % (slabBytes / granuleBytes) / slab.granulesPerSlot;
    assert((slab.taken[number / 64] >> (number % 64) & 1) != 0);
    if (slab.used == slotsPerSlab(slab) && !slab.isolated) link(index);
    slab.taken[number / 64] &= ~(std::uint64_t{1} << (number % 64));
    usedBytes_ -= slot.bytes;
    if (--slab.used != 0 || slab.isolated) return;
    unlink(index);
    retire(index);
}

/// A slab without slots, in no list.
void SlotAllocator::retire(std::uint32_t index) {
    empty_.push_back(index);
    if (empty_.size() > emptySlabsKept) {
        empty_.pop_back();
        released_.push_back(index);
        --slabsInUse_;
        backing_.release(index * slabBytes);
    }
}

std::optional<std::uint32_t> SlotAllocator::isolate() {
    for (std::size_t tries = 0; tries < classCount; ++tries) {
        compactedClass_ = (compactedClass_ + 1) % classCount;
        std::uint32_t free = 0;
        auto emptiest = none;
        for (auto index = partial_[compactedClass_]; index != none; index = slabs_[index].next) {
            free += slotsPerSlab(slabs_[index]) - slabs_[index].used;
            if (emptiest == none || slabs_[index].used < slabs_[emptiest].used) emptiest = index;
        }
        if (emptiest == none || free < slotsPerSlab(slabs_[emptiest])) continue;
        unlink(emptiest);
        slabs_[emptiest].isolated = true;
        return emptiest;
    }
    return std::nullopt;
}

std::vector<Slot> SlotAllocator::slotsIn(std::uint32_t index) const {
    std::vector<Slot> slots;
    const auto& slab = slabs_[index];
    for (std::uint32_t slot = 0; slot < slotsPerSlab(slab); ++slot)
        if ((slab.taken[slot / 64] >> (slot % 64) & 1) != 0)
            slots.push_back({index * (slabBytes / granuleBytes) + slot * slab.granulesPerSlot,
                             static_cast<std::uint32_t>(slab.granulesPerSlot * granuleBytes)});
    return slots;
}

void SlotAllocator::putBack(std::uint32_t index) {
    auto& slab = slabs_[index];
    slab.isolated = false;
    if (slab.used == 0)
        retire(index);
    else if (slab.used < slotsPerSlab(slab))
        link(index);
}

void SlotAllocator::trim() {
    for (const auto index : empty_) {
        released_.push_back(index);
        --slabsInUse_;
        backing_.release(index * slabBytes);
    }
    empty_.clear();
}

void SlotAllocator::link(std::uint32_t index) {
    auto& slab = slabs_[index];
    slab.previous = none;
    slab.next = head(slab);
    if (slab.next != none) slabs_[slab.next].previous = index;
    head(slab) = index;
}

void SlotAllocator::unlink(std::uint32_t index) {
    auto& slab = slabs_[index];
    if (slab.previous != none)
        slabs_[slab.previous].next = slab.next;
    else
        head(slab) = slab.next;
    if (slab.next != none) slabs_[slab.next].previous = slab.previous;
    slab.previous = slab.next = none;
}

}  // namespace thermocline::memory
