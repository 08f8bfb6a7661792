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

    /// Bytes kept free below the limit once reclaim has run; it starts when half of them are used up.
    [[nodiscard]] std::uint64_t headroom() const {
        return std::clamp<std::uint64_t>(limit_ / 32, 2U << 20, 64U << 20);
    }
    [[nodiscard]] bool mustStart(std::uint64_t used) const { return used + headroom() / 2 > limit_; }

    /// The next step of a run of reclaim.
    [[nodiscard]] Action next(const Usage& usage) const {
        if (usage.used + headroom() <= limit_) return Action::nothing;
        // An eighth of what is in memory: long enough for hot pages to show themselves, and re-touching them
        // costs little.
        const auto pool = std::max<std::uint64_t>((usage.resident + usage.staged) / 8, 2U << 20);
        return usage.staged < pool ? Action::stage : Action::evict;
    }

  private:
    std::uint64_t limit_;
};

}  // namespace thermocline::memory
