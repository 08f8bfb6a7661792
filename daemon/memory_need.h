// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "memory/manager/protocol.h"

namespace thermocline {

/// What one VM needs of the host's memory, by its manager's figures: what is resident, since what is not used
/// is set aside and compressed under a limit; and more while it waits for pages that were taken. It rises at
/// once and halves its way down in 20 s. And whether taking more of it still pays. Belongs to one thread.
class MemoryNeed {
  public:
    using Time = std::chrono::steady_clock::time_point;

    /// The manager's figures, about once a second. Another attach begins anew.
    void observe(Time now, const manager::Status& status);
    /// 0 before the first figures.
    [[nodiscard]] std::uint64_t bytes() const { return static_cast<std::uint64_t>(bytes_); }
    /// Within 10 s the store has grown and saved less than half of that, or the manager has nothing left to
    /// take: a sentence that says so, while nothing more shall be taken of the VM (30 s, then twice as long
    /// each time, up to 10 min). Else empty.
    [[nodiscard]] std::string storeNote(Time now) const {
        return now < heldUntil_ ? storeNote_ : std::string();
    }

  private:
    struct Look {
        Time time;
        std::uint64_t away = 0;   ///< guest bytes that are not in memory as they are
        std::uint64_t store = 0;  ///< what they take of it all the same
    };
    void watchStore(Time now, const manager::Status& status);
    void hold(Time now, std::string why);

    double bytes_ = 0;
    std::optional<manager::Status> last_;
    Time lastTime_{};
    std::deque<Look> looks_;
    Time heldUntil_{};
    std::chrono::seconds holdNext_{30};
    std::string storeNote_;
};

}  // namespace thermocline
