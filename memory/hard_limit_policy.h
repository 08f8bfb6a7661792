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

/// How large the pool of staged pages should be: long enough for hot pages to show themselves, but no longer.
/// Who touches a page in the pool waits for it, though less than for one that went on to the store. So the
/// pool is worth its faults where those who pass it are touched much more seldom than those in it: rates of
/// touch, per page, of what is staged and of what is cold, are what observe() compares. Where everything is
/// much alike, or the pool holds more than the store, it only costs.
///
/// The derivation: C cold pages are wanted, a page stays cold for M = C / coldBack, and each eviction costs a
/// fault on a cold page, K, and F = stagedFaults / coldFaults ones on staged pages, k each; so the cost is
/// (K + k F) C / M. A pool that is kept a little longer, where pages are touched at the rate h, lengthens M
/// by h M - 1 and F by h (1 + F): worth it where h M > 1 + k (1 + F) / (K - k). With K = 2 k, and
/// h = stagedBack / staged pages, that is the comparison below.
///
/// And where everything is hot nothing would ever stay in a pool of any size, and the limit would never be
/// met. So it shrinks where all that was staged is touched again, in the end to nothing: what is staged is
/// then evicted at once.
class PoolShare {
  public:
    static constexpr double most = 1.0 / 8;
    static constexpr double first = 1.0 / 32;
    static constexpr double leastWanted = 1.0 / 128;

    [[nodiscard]] double value() const { return value_; }
    /// Pages go straight to the store.
    [[nodiscard]] bool forced() const { return value_ == 0; }
    void evicted() { value_ = std::min(wanted_, value_ * 1.25 + least); }
    void touched() { value_ = value_ / 2 < least ? 0 : value_ / 2; }

    /// What came back since it was told last: by how many faults, and how many pages (one fault may bring a
    /// huge page, or more than was asked for).
    struct Back {
        double stagedFaults = 0;
        double stagedPages = 0;
        double coldFaults = 0;
        double coldPages = 0;
    };
    /// `staged`, `cold`: pages that are so now.
    void observe(const Back& back, std::uint64_t staged, std::uint64_t cold) {
        seen_.stagedFaults += back.stagedFaults;
        seen_.stagedPages += back.stagedPages;
        seen_.coldFaults += back.coldFaults;
        seen_.coldPages += back.coldPages;
        if (seen_.stagedFaults + seen_.coldFaults < enoughFaults || staged == 0) return;
        const double hot = seen_.stagedPages * static_cast<double>(cold) * seen_.coldFaults;
        const double alike = seen_.coldPages * static_cast<double>(staged);
        // Where nobody wants what is cold, the pool does what it is for.
        const bool worthIt =
            seen_.coldFaults == 0 || hot > alike * (2 * seen_.coldFaults + seen_.stagedFaults);
        wanted_ = std::clamp(wanted_ * (worthIt ? 1.25 : 0.8), leastWanted, most);
        value_ = std::min(value_, wanted_);
        // The latest count most.
        seen_ = {seen_.stagedFaults / 2, seen_.stagedPages / 2, seen_.coldFaults / 2, seen_.coldPages / 2};
    }

  private:
    static constexpr double least = 1.0 / 512;
    static constexpr double enoughFaults = 256;
    double wanted_ = first;
    double value_ = first;
    Back seen_;
};

}  // namespace thermocline::memory
