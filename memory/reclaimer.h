// SPDX-License-Identifier: Apache-2.0
#pragma once

// The background thread of one VM: reclaims while the limit asks for it, brings pages back when there is none
// (any more). Public members may be called from any thread.

#include <sched.h>

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
#include <vector>

#include "memory/activity.h"
#include "memory/block_choice.h"
#include "memory/budget.h"
#include "memory/clock_choice.h"
#include "memory/hard_limit_policy.h"
#include "memory/pager.h"
#include "memory/proactive_policy.h"

namespace thermocline::memory {

class Reclaimer {
  public:
    /// What the reclaimer needs of the fault path.
    struct Guest {
        std::function<void()> roomMade;                    ///< memory was freed
        std::function<void()> wake;                        ///< FaultHandler::wake()
        std::function<bool()> ended;                       ///< the VM's process is gone
        std::function<std::chrono::nanoseconds()> stall;   ///< FaultHandler::stall()
        std::function<std::chrono::nanoseconds()> waited;  ///< FaultHandler::waited()
        std::function<std::uint64_t()> faults;             ///< FaultHandler::faults()
        std::function<bool()> waits;                       ///< FaultHandler::waitsForRoom()
        std::function<int()> cpu;                          ///< FaultHandler::cpu()
        /// Who is asked before the built-in clock; nullptr: nobody. Any thread.
        std::function<BlockChoice*()> advice = [] { return nullptr; };
    };

    /// All references outlive the reclaimer; `frozen` may be none.
    Reclaimer(Pager& pager, ColdStore& store, FrozenTier* frozen, Budget& budget, Guest guest);
    ~Reclaimer();
    Reclaimer(const Reclaimer&) = delete;
    Reclaimer& operator=(const Reclaimer&) = delete;

    /// Ends the thread; nothing is reclaimed or brought back any more.
    void stop();
    /// 0 = no limit. Without a limit and without a proactive policy everything is brought back, then the
    /// guest's RAM is left alone.
    void setLimit(std::uint64_t bytes);
    /// Looks for cold memory even where no limit asks for it; nothing = no longer.
    void setProactive(std::optional<ProactivePolicy::Settings> settings);
    [[nodiscard]] std::optional<ProactivePolicy::Settings> proactive() const;
    /// What the VM does from now on; Activity::running at first.
    void setActivity(Activity activity);
    [[nodiscard]] Activity activity() const;
    /// Takes everything out of the file tier, then destroys it. REQUIRES: a file tier.
    void closeFileTier();
    /// Memory use went up, or a fault waits for room.
    void memoryGrew();
    /// Has it nothing to do?
    [[nodiscard]] bool sleeping() const { return sleeping_.load(std::memory_order_relaxed); }
    /// A stream of faults goes on in the block `to`, which is taken last, and has left `from` behind: that
    /// goes before others, so that a scan does not push out what it does not touch.
    void streamMoved(std::optional<BlockNumber> from, BlockNumber to, bool whole);
    /// The advice has something to bring back.
    void advised();
    /// Everything is being brought back.
    [[nodiscard]] bool restoring() const { return restoring_.load(std::memory_order_relaxed); }
    /// Why the limit is not met, for a person; empty where it is, or where reclaim is still at it.
    [[nodiscard]] std::string note() const;
    /// Waits until, without a limit and a policy, every page is back and the guest unregistered. Error: what
    /// stopped it (outOfMemory, processGone, busy when a new limit came).
    Result<void> awaitRestored();

  private:
    using Clock = std::chrono::steady_clock;
    /// It is quiet once the guest has not waited, or nothing was evicted, for so long.
    static constexpr auto calm = std::chrono::milliseconds(200);
    /// How far reclaim is behind the guest.
    enum class Pressure {
        none,
        waits,        ///< the guest has waited for it: copies are worth their memory
        overwhelmed,  ///< it waits most of the time: speed counts more than bytes
    };

    void run();
    void wakeUp();
    void await();
    bool registerGuest();
    void probe();
    Result<bool> bringBack(const std::vector<BlockNumber>& blocks);
    void restore();
    void setNote(std::string note);
    // reclaimer_limit.cpp
    void reclaim();
    void concede(bool froze);
    [[nodiscard]] bool outOfPatience() const;
    void observePressure();
    void observePool();
    void keepOffTheFaultsCpu();
    // reclaimer_choice.cpp
    Step stage(BlockNumber block, Pager::HotBlocks hot, bool passed = false, bool poorToo = false);
    bool stagePassed();
    bool stageAdvised();
    bool stageNext();
    [[nodiscard]] Algorithm algorithm(bool passed) const;
    Step evict(BlockNumber block, Algorithm algorithm, Pager::Poor poor);
    bool evictOldest();
    bool mayFreezePoor(BlockNumber block);
    [[nodiscard]] bool stagedForLong(const ClockChoice::Staged& oldest) const;
    bool evictAdvised();
    void bringBackAdvised();
    void unstage();
    // reclaimer_frozen.cpp
    Pager::FreezeAge freezeAge();
    bool freezeNext();
    void emptyFileTier();
    void awaitFrozen();
    // reclaimer_tidying.cpp
    void tidyWhileIdle();
    bool dropCopies();
    bool tightenNext();
    bool rebuildNext();
    // reclaimer_activity.cpp
    bool bringBackInOrder();
    void endOfCopying();
    void freezePaused();
    void rememberWorkingSet(const std::vector<Pager::InMemory>& found);
    void restoreWorkingSet();
    [[nodiscard]] bool managed() const {
        return budget_.limit() != 0 || proactive_ || activity_ == Activity::paused;
    }
    [[nodiscard]] bool bringsAllBack() const { return !managed() || activity_ == Activity::copiedOut; }
    [[nodiscard]] bool workToDo() const;
    [[nodiscard]] HardLimitPolicy::Usage usage() const;

    Pager& pager_;
    ColdStore& store_;
    FrozenTier* frozen_;
    Budget& budget_;
    Guest guest_;

    ClockChoice clock_;
    BlockNumber copyHand_ = 0;         // next block to look for copies in
    BlockNumber frozenHand_ = 0;       // ... and for pages that are cold for long
    Clock::time_point freezeAgain_{};  // in vain until then
    bool diskBusy_ = false;            // that is why
    /// A turnover: as many pages have been evicted as are in memory.
    Clock::time_point turnoverBegan_ = Clock::now();
    std::uint64_t evictedBefore_ = 0;
    Clock::duration lastTurnover_ = Clock::duration::max();
    BlockNumber looseHand_ = 0;  // ... and for pages that were compressed for speed
    BlockNumber splitHand_ = 0;  // ... and for huge pages to be made
    Clock::time_point rebuildAgain_{};
    std::uint64_t evictedLast_ = 0;  // as many pages had been at evictedAt_
    Clock::time_point evictedAt_{};
    cpu_set_t allowedCpus_{};
    int avoidedCpu_ = -1;
    Clock::time_point avoidedSince_{};
    /// Where reclaim found nothing more to take it asks for no more until then, and next time for longer:
    /// the guest may have made pages that compress, or may be let in by a kernel that refused us.
    static constexpr auto firstRespite = std::chrono::seconds(1);
    std::chrono::seconds respite_ = firstRespite;
    Clock::time_point respiteUntil_{};
    Clock::time_point progressAt_{};  // reclaim began, or freed something
    PoolShare poolShare_;
    PoolShare::Back cameBack_;                // all in all, when the share was told last
    bool manyAtOnce_ = false;                 // in the moment before that, with each fault
    BlockNumber nextInOrder_ = 0;             // to be brought back for who copies the VM's memory
    bool limitWaits_ = false;                 // for the end of that
    bool hostShort_ = false;                  // the limit has to hold all the same
    std::deque<Pager::InMemory> workingSet_;  // what went when the VM was paused, hottest first
    std::uint64_t leftInMemory_ = 0;          // pages then; 0: it was not all gone over yet
    std::uint64_t inVain_ = 0;  // blocks of which no page could go, as none compresses, one after the other
    Pressure pressure_ = Pressure::none;
    Clock::time_point pressureSince_{};
    std::chrono::nanoseconds waitedBefore_{0};
    Clock::time_point waitedLast_{};
    Clock::time_point probedAt_{};
    std::chrono::nanoseconds stallBefore_{0};
    std::uint64_t faultsBefore_ = 0;
    std::mutex passedMutex_;  // guards passed_
    struct Passed {
        BlockNumber block;
        bool whole;  ///< every page of it
    };
    std::deque<Passed> passed_;
    static constexpr BlockNumber nowhere = ~BlockNumber{0};
    std::atomic<BlockNumber> streamAt_{nowhere};

    mutable std::mutex mutex_;  // guards the members below and the two conditions
    std::condition_variable wake_;
    std::condition_variable restoredChanged_;
    std::string note_;
    std::optional<ProactivePolicy> proactive_;
    Activity activity_ = Activity::running;
    bool changed_ = false;  // limit, policy or file tier
    bool closeTier_ = false;
    bool restored_ = true;
    std::optional<Error> restoreError_;
    std::atomic<bool> restoring_{true};
    std::atomic<bool> sleeping_{false};
    std::atomic<bool> stop_{false};
    std::thread thread_;  // last: it uses all of the above
};

}  // namespace thermocline::memory
