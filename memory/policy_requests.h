// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a policy has asked for, as the reclaimer sees it: three lists of blocks, in the policy's order, and
// until when which blocks are to be left alone. Bounded; every number has been checked before it comes here.
// Thread-safe: locks are held for a swap or a step, never while anything else is waited for.

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <optional>
#include <vector>

#include "memory/block_choice.h"
#include "memory/policy_events.h"

namespace thermocline::memory {

class PolicyRequests final : public BlockChoice {
  public:
    struct Blocks {
        BlockNumber first = 0;
        std::uint64_t count = 0;
    };
    enum class List { stage, evict, bringBack };

    explicit PolicyRequests(std::uint64_t blocks) : keptUntil_(blocks) {}

    // -- the policy's side --
    void replace(List list, std::vector<Blocks> order);
    void keep(Blocks blocks, std::chrono::milliseconds time);
    /// Nothing is asked for any more.
    void clear();
    [[nodiscard]] std::uint64_t blocks() const { return keptUntil_.size(); }
    /// How many blocks were moved as it asked.
    [[nodiscard]] std::uint64_t advised() const { return advised_.load(std::memory_order_relaxed); }
    /// Pages that went to the store; pushed by the background thread.
    [[nodiscard]] PolicyEvents& events() { return events_; }

    // -- the engine's --
    std::optional<BlockNumber> toStage() override { return next(List::stage); }
    std::optional<BlockNumber> toEvict() override { return next(List::evict); }
    std::optional<BlockNumber> toBringBack() override { return next(List::bringBack); }
    [[nodiscard]] bool wantsBack() const override { return wantsBack_.load(std::memory_order_relaxed); }
    [[nodiscard]] bool keeps(BlockNumber block) const override;
    void carriedOut() override { advised_.fetch_add(1, std::memory_order_relaxed); }
    void wentCold(BlockNumber block) override { events_.push({PolicyEvent::Kind::goneCold, block}); }

  private:
    struct Queue {
        std::vector<Blocks> order;
        std::size_t next = 0;  // into order
    };
    std::optional<BlockNumber> next(List list);

    std::mutex mutex_;  // guards queues_
    std::array<Queue, 3> queues_;
    std::atomic<bool> wantsBack_{false};
    std::vector<std::atomic<std::int64_t>> keptUntil_;  // ms of the steady clock
    std::atomic<std::uint64_t> advised_{0};
    PolicyEvents events_;
};

}  // namespace thermocline::memory
