// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "daemon/event_loop.h"

namespace thermocline {

/// Lets one piece of work after the other be done, each from the loop. Belongs to the loop's thread.
class Turns {
  public:
    using Work = std::function<void(std::function<void()> over)>;

    explicit Turns(EventLoop& loop) : loop_(loop) {}

    /// `work` has its turn until it calls `over`, which must be once.
    void ask(Work work) {
        waiting_.push_back(std::move(work));
        next();
    }

  private:
    void next() {
        if (busy_ || waiting_.empty()) return;
        busy_ = true;
        loop_.post([this, work = std::move(waiting_.front()), alive = std::weak_ptr<bool>(alive_)] {
            work([this, alive] {
                if (alive.expired()) return;
                busy_ = false;
                next();
            });
        });
        waiting_.pop_front();
    }

    EventLoop& loop_;
    std::deque<Work> waiting_;
    bool busy_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace thermocline
