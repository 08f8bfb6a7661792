// SPDX-License-Identifier: Apache-2.0
#pragma once

// A thread that wakes another lets it have this processor at once. The scheduler puts who is woken on an
// idle processor where there is one, an interrupt (and in a nested VM an exit) away, although its own is
// about to be free: it is busy with the waker. A processor that has nothing to run but SCHED_IDLE counts as
// idle, and is not left; so that is what the waker is while it wakes, and who is woken pushes it aside.
// It stays aside until its next turn, which then costs nothing.
//
// The danger: as SCHED_IDLE a thread waits for all others, and it is the one whom the guest's faults wait
// for. So nothing is held and nothing left to do when it gives way, and a second thread, the keeper, looks
// every millisecond whether it is aside and has had no turn since, and gives it its class back. Where
// somebody had to wait for it till then, as two looks 50 us apart tell, it does not give way for a while, the
// longer the more often that was so. What it begins while it is still aside, with locks of ours and of the
// kernel's, may be held up by others on this processor in the same way: for two of those milliseconds at
// most.

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace thermocline::memory {

class GiveWay {
  public:
    using Clock = std::chrono::steady_clock;

    /// For the calling thread, which alone calls what follows. `wanted`: does anybody wait for it? Asked by
    /// the keeper. Where the kernel does not let it have its class back, or somebody gave it another one than
    /// SCHED_OTHER, or there is no keeper to be had, it never gives way.
    explicit GiveWay(std::function<bool()> wanted);
    ~GiveWay();
    GiveWay(const GiveWay&) = delete;
    GiveWay& operator=(const GiveWay&) = delete;

    /// May it, now?
    [[nodiscard]] bool allowed(Clock::time_point now) const {
        return possible_.load(std::memory_order_relaxed) &&
               now.time_since_epoch().count() >= notBefore_.load(std::memory_order_relaxed);
    }
    /// Calls `wake`, and may go on only when there is nothing else to run here, then and later: until
    /// takeBack(), or for a millisecond or two. REQUIRES: no lock is held.
    template <typename Wake>
    void during(Wake&& wake) {
        stepAside();
        wake();
    }
    /// What comes next is not to wait for others. Costs nothing where it is not aside.
    void takeBack();
    /// How often the keeper had to help.
    [[nodiscard]] std::uint64_t rescues() const { return rescues_.load(std::memory_order_relaxed); }

    /// Does the keeper wait to be told of the next turn? For tests.
    [[nodiscard]] bool keeperRests() const { return resting_.load(); }

  private:
    void stepAside();
    void keep();
    void rescue(std::unique_lock<std::mutex>& lock);

    const pid_t thread_;
    std::function<bool()> wanted_;
    std::atomic<bool> possible_{false};
    std::atomic<bool> aside_{false};  // SCHED_IDLE, or about to be; false is followed by SCHED_OTHER
    std::atomic<std::uint64_t> turns_{0};
    std::atomic<bool> resting_{false};  // the keeper, until it is told
    std::atomic<std::int64_t> notBefore_{0};
    std::atomic<std::uint64_t> rescues_{0};
    std::chrono::nanoseconds pause_{0};  // the keeper's: the last one that was imposed
    std::mutex mutex_;
    std::condition_variable changed_;
    bool stop_ = false;
    std::thread keeper_;  // last: it uses all of the above
};

}  // namespace thermocline::memory
