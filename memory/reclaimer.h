// SPDX-License-Identifier: Apache-2.0
#pragma once

// The background thread of one VM: reclaims while the limit asks for it, brings pages back when there is none
// (any more). Public members may be called from any thread.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "memory/budget.h"
#include "memory/hard_limit_policy.h"
#include "memory/pager.h"

namespace thermocline::memory {

class Reclaimer {
  public:
    /// `roomMade` is called after memory was freed. All references outlive the reclaimer.
    Reclaimer(Pager& pager, ColdStore& store, Budget& budget, std::function<void()> roomMade);
    ~Reclaimer();
    Reclaimer(const Reclaimer&) = delete;
    Reclaimer& operator=(const Reclaimer&) = delete;

    /// Ends the thread; nothing is reclaimed or brought back any more.
    void stop();
    /// 0 = no limit: everything is brought back, then the guest's RAM is left alone.
    void setLimit(std::uint64_t bytes);
    /// Memory use went up, or a fault waits for room.
    void memoryGrew();
    /// Reclaim has found nothing more to take.
    [[nodiscard]] bool hopeless() const { return hopeless_.load(std::memory_order_relaxed); }
    /// Why the limit is not met, for a person; empty where it is, or where reclaim is still at it.
    [[nodiscard]] std::string note() const;
    /// Waits until, without a limit, every page is back and the guest unregistered. Error: what stopped it
    /// (outOfMemory, processGone, busy when a new limit came).
    Result<void> awaitRestored();

  private:
    void run();
    void reclaim();
    bool stageNext();
    bool evictOldest();
    void restore();
    void setNote(std::string note);
    [[nodiscard]] bool workToDo() const;
    [[nodiscard]] HardLimitPolicy::Usage usage() const;

    Pager& pager_;
    ColdStore& store_;
    Budget& budget_;
    std::function<void()> roomMade_;

    std::deque<BlockNumber> staged_;  // oldest first; a block may have been touched since
    BlockNumber hand_ = 0;            // the clock's hand: next block to stage

    mutable std::mutex mutex_;  // guards the members below and the two conditions
    std::condition_variable wake_;
    std::condition_variable restoredChanged_;
    std::string note_;
    bool limitChanged_ = false;
    bool restored_ = true;
    std::optional<Error> restoreError_;
    std::atomic<bool> sleeping_{false};
    std::atomic<bool> stop_{false};
    std::atomic<bool> hopeless_{false};
    std::thread thread_;  // last: it uses all of the above
};

}  // namespace thermocline::memory
