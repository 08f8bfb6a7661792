// SPDX-License-Identifier: Apache-2.0
#pragma once

// When to reclaim under a hard limit, and what first: an LRU by staging generations. A pool of staged pages
// is kept between guest RAM and store; a page that is touched there goes back, so what has been in the pool
// longest is coldest and is evicted. Reclaim starts some way below the limit, so that a fault seldom has to
// wait for room. Pure arithmetic, thread-safe.

#include <algorithm>
#include <cstdint>

namespace thermocline::memory {

class HardLimitPolicy {
  public:
    struct Usage {
        std::uint64_t used = 0;      ///< what the limit bounds
        std::uint64_t resident = 0;  ///< of it, in guest RAM
        std::uint64_t staged = 0;    ///< of it, in the pool
    };
    enum class Action { nothing, stage, evict };

    explicit HardLimitPolicy(std::uint64_t limitBytes) : limit_(limitBytes) {}

    /// Bytes kept free below the limit once reclaim has run; it starts when a quarter of them is used up, so
    /// that there is room for a huge page while it runs.
    [[nodiscard]] std::uint64_t headroom() const {
        return std::clamp<std::uint64_t>(limit_ / 128, 4U << 20, 64U << 20);
    }
    [[nodiscard]] bool mustStart(std::uint64_t used) const { return used + headroom() * 3 / 4 > limit_; }

    /// The next step of a run of reclaim. `poolShare`: of what is in memory, as PoolShare has it.
    [[nodiscard]] Action next(const Usage& usage, double poolShare) const {
        if (usage.used + headroom() <= limit_) return Action::nothing;
        const auto pool = static_cast<double>(usage.resident + usage.staged) * poolShare;
        return static_cast<double>(usage.staged) < pool ? Action::stage : Action::evict;
    }

  private:
    std::uint64_t limit_;
};

/// How large the pool of staged pages should be: an eighth of what is in memory, long enough for hot pages to
/// show themselves; but where everything is hot nothing would ever stay in so large a pool, and the limit
/// would never be met. So it shrinks where all that was staged is touched again, in the end to nothing: what
/// is staged is then evicted at once.
class PoolShare {
  public:
    static constexpr double most = 1.0 / 8;

    [[nodiscard]] double value() const { return value_; }
    /// Pages go straight to the store.
    [[nodiscard]] bool forced() const { return value_ == 0; }
    void evicted() { value_ = std::min(most, value_ * 1.25 + least); }
    void touched() { value_ = value_ / 2 < least ? 0 : value_ / 2; }

  private:
    static constexpr double least = 1.0 / 512;
    double value_ = most;
};

}  // namespace thermocline::memory
