// SPDX-License-Identifier: Apache-2.0
#pragma once

// The built-in choice: a clock's hand goes round guest RAM and says what is staged next; what was staged is
// stored first in, first out, so that what goes has been untouched longest. Background thread only.

#include <chrono>
#include <deque>

#include "memory/block_choice.h"

namespace thermocline::memory {

class ClockChoice final : public BlockChoice {
  public:
    using Clock = std::chrono::steady_clock;
    struct Staged {
        BlockNumber block = 0;
        Clock::time_point since;
        bool passed =
            false;  ///< by a stream, which will bring it back as fast as it can if it comes by again
    };

    explicit ClockChoice(std::uint64_t blocks) : blocks_(blocks) {}

    /// Never nothing: who asks knows when to give up.
    std::optional<BlockNumber> toStage() override {
        const auto block = hand_;
        hand_ = (hand_ + 1) % blocks_;
        return block;
    }
    /// A part of the last block is left: it comes next once more.
    void again() { hand_ = (hand_ + blocks_ - 1) % blocks_; }
    std::optional<BlockNumber> toEvict() override {
        const auto oldest = takeOldest();
        return oldest ? std::optional(oldest->block) : std::nullopt;
    }

    /// The pool of what is staged, oldest first; a block may have been touched since.
    void staged(BlockNumber block, bool passed) { pool_.push_back({block, Clock::now(), passed}); }
    [[nodiscard]] bool poolEmpty() const { return pool_.empty(); }
    /// REQUIRES: not empty.
    [[nodiscard]] Clock::time_point oldestSince() const { return pool_.front().since; }
    std::optional<Staged> takeOldest() {
        if (pool_.empty()) return std::nullopt;
        const auto oldest = pool_.front();
        pool_.pop_front();
        return oldest;
    }
    std::optional<Staged> takeNewest() {
        if (pool_.empty()) return std::nullopt;
        const auto newest = pool_.back();
        pool_.pop_back();
        return newest;
    }
    /// Somebody else has dealt with it.
    void forget(BlockNumber block) {
        std::erase_if(pool_, [&](const Staged& staged) { return staged.block == block; });
    }
    void clearPool() { pool_.clear(); }

  private:
    std::uint64_t blocks_;
    BlockNumber hand_ = 0;
    std::deque<Staged> pool_;
};

}  // namespace thermocline::memory
