// SPDX-License-Identifier: Apache-2.0
#pragma once

// Who decides which blocks go next. The reclaimer knows how much memory is to be taken and how; which it is,
// it asks. ClockChoice is the built-in answer and always has one; PolicyRequests is what a policy has asked
// for, and is asked first. The to...() members belong to the background thread.

#include <optional>

#include "memory/page.h"

namespace thermocline::memory {

class BlockChoice {
  public:
    virtual ~BlockChoice() = default;

    /// The block to move aside next; nothing: no opinion (any more).
    virtual std::optional<BlockNumber> toStage() = 0;
    /// The block to store next; the guest may have touched it since it was staged.
    virtual std::optional<BlockNumber> toEvict() = 0;
    /// A block to bring back though nobody has touched it.
    virtual std::optional<BlockNumber> toBringBack() { return std::nullopt; }
    /// Any thread: would toBringBack() name one?
    [[nodiscard]] virtual bool wantsBack() const { return false; }
    /// Is this block to be left alone, as long as there are others?
    [[nodiscard]] virtual bool keeps(BlockNumber block) const {
        (void)block;
        return false;
    }
    /// A block that it named was staged, stored or brought back.
    virtual void carriedOut() {}
    /// Pages of `block` went to the store, whoever chose it.
    virtual void wentCold(BlockNumber block) { (void)block; }
};

}  // namespace thermocline::memory
