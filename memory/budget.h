// SPDX-License-Identifier: Apache-2.0
#pragma once

// How much memory a VM takes and how much it may: what the limit bounds is guest pages (resident and staged), the store and our
// metadata together. Thread-safe: counters and atomics only.

#include <atomic>
#include <cstdint>

#include "memory/cold_store.h"
#include "memory/pager.h"

namespace thermocline::memory {

class Budget {
  public:
    Budget(const Pager& pager, const ColdStore& store) : pager_(pager), store_(store) {}

    /// 0 = no limit.
    [[nodiscard]] std::uint64_t limit() const { return limit_.load(std::memory_order_relaxed); }
    void setLimit(std::uint64_t bytes) { limit_.store(bytes, std::memory_order_relaxed); }

    /// Bytes in use now; meaningful while the guest is registered.
    [[nodiscard]] std::uint64_t used() const {
        const auto& pages = pager_.pages();
        return (pages.count(PageState::resident) + pages.count(PageState::staged) + pager_.leftoverPages()) * pageBytes +
               store_.storedBytes() + pager_.metadataBytes();
    }
    /// May `bytes` more be used?
    [[nodiscard]] bool hasRoom(std::uint64_t bytes) const { return limit() == 0 || used() + bytes <= limit(); }

  private:
    const Pager& pager_;
    const ColdStore& store_;
    std::atomic<std::uint64_t> limit_{0};
};

/// The limits that a guest with `memoryBytes` of RAM can be given: at least this much, at most memoryBytes.
constexpr std::uint64_t limitFloor(std::uint64_t memoryBytes) {
    constexpr std::uint64_t least = 16U << 20;
    return memoryBytes / 16 > least ? memoryBytes / 16 : least;
}

}  // namespace thermocline::memory
