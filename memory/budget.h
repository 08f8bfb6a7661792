// SPDX-License-Identifier: Apache-2.0
#pragma once

// How much memory a VM takes and how much it may: what the limit bounds is guest pages (resident and staged),
// the store and our metadata together. Thread-safe: counters and atomics only.

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "memory/cold_store.h"
#include "memory/pager.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {

class Budget {
  public:
    Budget(const Pager& pager, const ColdStore& store) : pager_(pager), store_(store) {}

    /// 0 = no limit.
    [[nodiscard]] std::uint64_t limit() const { return limit_.load(std::memory_order_relaxed); }
    void setLimit(std::uint64_t bytes) {
        limit_.store(bytes, std::memory_order_relaxed);
        withdraw();
    }
    /// What reclaim aims at: the limit, or more where that cannot be met.
    [[nodiscard]] std::uint64_t target() const {
        return std::max(limit(), conceded_.load(std::memory_order_relaxed));
    }
    /// There is nothing left to take: the guest may use `bytes` more than now, rather than stand still for
    /// memory that is not to be had.
    void concede(std::uint64_t bytes) {
        conceded_.store(used() + bytes, std::memory_order_relaxed);
        ceiling_.store(target(), std::memory_order_relaxed);
    }
    /// The limit does not count until withdraw().
    void lift() {
        conceded_.store(UINT64_MAX / 2, std::memory_order_relaxed);
        ceiling_.store(UINT64_MAX, std::memory_order_relaxed);
    }
    /// Back to the limit itself; until it is reached as with a new one.
    void withdraw() {
        conceded_.store(0, std::memory_order_relaxed);
        ceiling_.store(UINT64_MAX, std::memory_order_relaxed);
    }
    /// Reclaim has freed memory. A limit far below what is in use takes a while to reach, and the guest must
    /// not stand still meanwhile: until then it may use what it uses now and a little more, ever less as
    /// reclaim goes on.
    void reclaimed() {
        const auto now = std::max(target(), used() + slack);
        sequencePoint("ceiling-found");
        if (now < ceiling_.load(std::memory_order_relaxed)) ceiling_.store(now, std::memory_order_relaxed);
    }

    /// Bytes in use now; meaningful while the guest is registered.
    [[nodiscard]] std::uint64_t used() const {
        const auto& pages = pager_.pages();
        return (pages.count(PageState::resident) + pages.count(PageState::staged) + pager_.leftoverPages()) *
                   pageBytes +
               store_.storedBytes() + pager_.metadataBytes();
    }
    /// To reclaim the spare is room that was made already: what takes it over needs no more.
    [[nodiscard]] std::uint64_t usedButSpare() const {
        const auto bytes = used();
        return bytes - std::min(bytes, pager_.spareBytes());
    }
    /// Bytes more that may be used.
    [[nodiscard]] std::uint64_t room() const {
        if (limit() == 0) return UINT64_MAX;
        const auto bytes = used();
        const auto most = ceiling_.load(std::memory_order_relaxed);
        return most > bytes ? most - bytes : 0;
    }
    [[nodiscard]] bool hasRoom(std::uint64_t bytes) const { return bytes <= room(); }
    [[nodiscard]] bool limitMet() const { return limit() == 0 || used() <= limit(); }

  private:
    static constexpr std::uint64_t slack = 1U << 20;

    const Pager& pager_;
    const ColdStore& store_;
    std::atomic<std::uint64_t> limit_{0};
    std::atomic<std::uint64_t> conceded_{0};
    std::atomic<std::uint64_t> ceiling_{UINT64_MAX};  // the target, once it was reached
};

/// The limits that a guest with `memoryBytes` of RAM can be given: at least this much, at most memoryBytes.
constexpr std::uint64_t limitFloor(std::uint64_t memoryBytes) {
    constexpr std::uint64_t least = 16U << 20;
    return memoryBytes / 16 > least ? memoryBytes / 16 : least;
}

}  // namespace thermocline::memory
