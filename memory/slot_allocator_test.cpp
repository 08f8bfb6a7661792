// SPDX-License-Identifier: Apache-2.0
#include "memory/slot_allocator.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace thermocline::memory {
namespace {

TEST(SlotAllocator, slotsNeverOverlapUnderChurn) {
    std::uint64_t acquired = 0;
    std::uint64_t released = 0;
    SlotAllocator allocator(
        256, {[&](std::uint64_t) { return ++acquired > 0; }, [&](std::uint64_t) { ++released; }});
    std::map<std::uint64_t, Slot> live;  // by offset
    std::mt19937 random(1);
    std::uint64_t bytes = 0;
    for (int i = 0; i < 60000; ++i) {
        if (live.empty() || (random() % 100 < 55 && live.size() < 4000)) {
            const auto slot =
                allocator.allocate(static_cast<std::uint32_t>(1 + random() % SlotAllocator::maxSlotBytes));
            if (!slot) continue;
            const auto next = live.lower_bound(slot->offset());
            ASSERT_TRUE(next == live.end() || slot->offset() + slot->bytes <= next->first);
            if (next != live.begin()) {
                const auto& previous = std::prev(next)->second;
                ASSERT_LE(previous.offset() + previous.bytes, slot->offset());
            }
            ASSERT_EQ(slot->offset() / SlotAllocator::slabBytes,
                      (slot->offset() + slot->bytes - 1) / SlotAllocator::slabBytes);
            live.emplace(slot->offset(), *slot);
            bytes += slot->bytes;
        } else {
            auto victim = std::next(live.begin(), static_cast<std::ptrdiff_t>(random() % live.size()));
            bytes -= victim->second.bytes;
            allocator.free(victim->second);
            live.erase(victim);
        }
        ASSERT_EQ(allocator.usedBytes(), bytes);
    }
    for (const auto& [offset, slot] : live)
        allocator.free(slot);
    EXPECT_EQ(allocator.usedBytes(), 0U);
    EXPECT_LE(allocator.slabBytesInUse(), SlotAllocator::emptySlabsKept * SlotAllocator::slabBytes);
    allocator.trim();
    EXPECT_EQ(allocator.slabBytesInUse(), 0U);
    EXPECT_GT(released, 0U);
    EXPECT_EQ(acquired, released);
}

TEST(SlotAllocator, isFullAtItsBound) {
    SlotAllocator allocator(2, {[](std::uint64_t) { return true; }, [](std::uint64_t) {}});
    std::vector<Slot> slots;
    while (const auto slot = allocator.allocate(4096))
        slots.push_back(*slot);
    EXPECT_EQ(slots.size(), 2 * 16U);
    EXPECT_FALSE(allocator.allocate(1));
    allocator.free(slots.back());
    EXPECT_TRUE(allocator.allocate(4096));
    EXPECT_FALSE(allocator.allocate(1)) << "a slab serves one size at a time";
    for (std::size_t i = 16; i < slots.size(); ++i)
        allocator.free(slots[i]);
    EXPECT_TRUE(allocator.allocate(1)) << "an empty slab serves any size";
}

TEST(SlotAllocator, aSlabThatCannotBeHadIsTriedAgainLater) {
    bool available = false;
    SlotAllocator allocator(2, {[&](std::uint64_t) { return available; }, [](std::uint64_t) {}});
    EXPECT_FALSE(allocator.allocate(100));
    EXPECT_EQ(allocator.slabBytesInUse(), 0U);
    available = true;
    EXPECT_TRUE(allocator.allocate(100));
    EXPECT_EQ(allocator.slabBytesInUse(), SlotAllocator::slabBytes);
}

TEST(SlotAllocator, theEmptiestSlabCanBeEmptiedIntoTheOthers) {
    SlotAllocator allocator(64, {[](std::uint64_t) { return true; }, [](std::uint64_t) {}});
    std::vector<Slot> slots;
    for (int i = 0; i < 8 * 64; ++i)  // eight slabs of 64 slots
        slots.push_back(*allocator.allocate(1024));
    EXPECT_EQ(allocator.isolate(), std::nullopt) << "they are full";
    std::vector<Slot> left;
    for (std::size_t i = 0; i < slots.size(); ++i) {
        if (i % 2 == 0 || (i < 64 && i > 8))
            allocator.free(slots[i]);
        else
            left.push_back(slots[i]);
    }
    const auto slab = allocator.isolate();
    ASSERT_TRUE(slab);
    const auto inSlab = allocator.slotsIn(*slab);
    ASSERT_EQ(inSlab.size(), 4U) << "1, 3, 5 and 7 of the first one";
    EXPECT_EQ(inSlab[0], slots[1]);
    for (const auto slot : inSlab) {
        const auto to = allocator.allocate(slot.bytes);
        ASSERT_TRUE(to);
        EXPECT_NE(to->offset() / SlotAllocator::slabBytes, *slab);
    }
    for (const auto slot : inSlab)
        allocator.free(slot);
    const auto before = allocator.slabBytesInUse();
    allocator.putBack(*slab);
    allocator.trim();
    EXPECT_EQ(allocator.slabBytesInUse(), before - SlotAllocator::slabBytes);
    EXPECT_EQ(allocator.usedBytes(), left.size() * 1024);
}

TEST(SlotAllocator, anIsolatedSlabThatKeepsSlotsIsUsedAgain) {
    SlotAllocator allocator(64, {[](std::uint64_t) { return true; }, [](std::uint64_t) {}});
    std::vector<Slot> slots;
    for (int i = 0; i < 2 * 16; ++i)
        slots.push_back(*allocator.allocate(4096));
    for (const std::size_t i : {0U, 1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U, 16U, 17U, 18U, 19U, 20U, 21U, 22U})
        allocator.free(slots[i]);
    const auto slab = allocator.isolate();
    ASSERT_TRUE(slab);
    EXPECT_EQ(*slab, 0U);
    allocator.putBack(*slab);
    for (int i = 0; i < 16; ++i)
        ASSERT_TRUE(allocator.allocate(4096));
    EXPECT_EQ(allocator.slabBytesInUse(), 2 * SlotAllocator::slabBytes) << "its gaps were not filled";
}

TEST(SlotAllocator, opensAgainWithWhatIsClaimedAndNothingElse) {
    const SlotAllocator::Backing backing{[](std::uint64_t) { return true; }, [](std::uint64_t) {}};
    std::mt19937 random(2);
    std::vector<Slot> live;
    std::uint64_t bytes = 0;
    {
        SlotAllocator before(64, backing);
        for (int i = 0; i < 3000; ++i)
            if (const auto slot =
                    before.allocate(static_cast<std::uint32_t>(1 + random() % SlotAllocator::maxSlotBytes)))
                live.push_back(*slot);
        for (std::size_t i = 0; i < live.size(); i += 2)
            before.free(live[i]);
        for (std::size_t i = 1; i < live.size(); i += 2)
            live[i / 2] = live[i];
        live.resize(live.size() / 2);
    }
    SlotAllocator after(64, backing);
    for (const auto& slot : live) {
        EXPECT_TRUE(after.claim(slot));
        EXPECT_FALSE(after.claim(slot)) << "twice";
        bytes += slot.bytes;
    }
    EXPECT_FALSE(after.claim({64 * 1024, 100})) << "out of bounds";
    EXPECT_FALSE(after.claim({live[0].granule, 0}));
    EXPECT_FALSE(after.claim({live[0].granule, live[0].bytes + 64})) << "of another class";
    EXPECT_EQ(after.usedBytes(), bytes);
    std::uint64_t empty = 0;
    for (const auto& [offset, length] : after.endClaims()) {
        empty += length;
        for (const auto& slot : live)
            EXPECT_TRUE(slot.offset() + slot.bytes <= offset || slot.offset() >= offset + length);
    }
    EXPECT_EQ(after.slabBytesInUse() + empty, 64 * SlotAllocator::slabBytes);
    // What is handed out now overlaps with nothing that was claimed.
    std::map<std::uint64_t, Slot> all;
    for (const auto& slot : live)
        all.emplace(slot.offset(), slot);
    while (const auto slot = after.allocate(static_cast<std::uint32_t>(1 + random() % 4096))) {
        const auto next = all.lower_bound(slot->offset());
        ASSERT_TRUE(next == all.end() || slot->offset() + slot->bytes <= next->first);
        if (next != all.begin()) {
            ASSERT_LE(std::prev(next)->second.offset() + std::prev(next)->second.bytes, slot->offset());
        }
        all.emplace(slot->offset(), *slot);
    }
    for (const auto& [offset, slot] : all)
        after.free(slot);
    EXPECT_EQ(after.usedBytes(), 0U);
}

}  // namespace
}  // namespace thermocline::memory
