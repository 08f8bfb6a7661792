// SPDX-License-Identifier: Apache-2.0
#pragma once

// What has happened to the guest's pages, on its way to a policy. A bounded ring for one thread that pushes
// and one that pops, without locks or system calls: pushing costs the fault path some nanoseconds, whatever
// the policy does. What finds no room is dropped and counted.

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

namespace thermocline::memory {

struct PolicyEvent {
    enum class Kind : std::uint8_t { absentFault, coldFault, frozenFault, touched, goneCold };
    Kind kind = Kind::touched;
    std::uint64_t number = 0;  ///< page; of goneCold: block
};

class PolicyEvents {
  public:
    static constexpr std::size_t capacity = 4096;

    void push(PolicyEvent event) {
        const auto at = pushed_.load(std::memory_order_relaxed);
        if (at - popped_.load(std::memory_order_acquire) == capacity) {
            dropped_.fetch_add(1, std::memory_order_relaxed);
            return;
        }
        ring_[at % capacity] = event.number << kindBits | static_cast<std::uint64_t>(event.kind);
        pushed_.store(at + 1, std::memory_order_release);
    }
    std::optional<PolicyEvent> pop() {
        const auto at = popped_.load(std::memory_order_relaxed);
        if (at == pushed_.load(std::memory_order_acquire)) return std::nullopt;
        const auto raw = ring_[at % capacity];
        popped_.store(at + 1, std::memory_order_release);
        return PolicyEvent{static_cast<PolicyEvent::Kind>(raw & ((1U << kindBits) - 1)), raw >> kindBits};
    }
    /// Any thread.
    [[nodiscard]] std::uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

  private:
    static constexpr unsigned kindBits = 3;
    std::array<std::uint64_t, capacity> ring_{};
    std::atomic<std::uint64_t> pushed_{0};
    std::atomic<std::uint64_t> popped_{0};
    std::atomic<std::uint64_t> dropped_{0};
};

}  // namespace thermocline::memory
