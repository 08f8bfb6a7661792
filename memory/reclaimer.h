// SPDX-License-Identifier: Apache-2.0
#pragma once

// The background thread of one VM: reclaims while the limit asks for it, brings pages back when there is none
// (any more). Public members may be called from any thread.

#include <atomic>
#include <chrono>
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
    /// Reclaim is too slow for the guest: from now on, for a moment, speed counts more than bytes.
    void guestWaits();
    /// A stream of faults has left `block` behind: it goes before others, so that a scan does not push out
    /// what it does not touch.
    void passedBy(BlockNumber block);
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
    bool stagePassed();
    bool stageNext();
    [[nodiscard]] bool hurried() const;
    bool evictOldest();
    bool dropCopies();
    bool tightenNext();
    [[nodiscard]] bool idle() const;
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
    BlockNumber copyHand_ = 0;        // next block to look for copies in
    BlockNumber looseHand_ = 0;       // ... and for pages that were compressed for speed
    std::mutex passedMutex_;          // guards passed_
    std::deque<BlockNumber> passed_;

    mutable std::mutex mutex_;  // guards the members below and the two conditions
    std::condition_variable wake_;
    std::condition_variable restoredChanged_;
    std::string note_;
    bool limitChanged_ = false;
    bool restored_ = true;
    std::optional<Error> restoreError_;
    std::atomic<std::chrono::steady_clock::time_point> guestWaited_{};
    std::atomic<bool> sleeping_{false};
    std::atomic<bool> stop_{false};
    std::atomic<bool> hopeless_{false};
    std::thread thread_;  // last: it uses all of the above
};

}  // namespace thermocline::memory
