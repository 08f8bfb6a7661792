// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>

#include <atomic>
#include <mutex>

namespace thermocline::memory {

/// A mutex at which the fault path goes first: background work that takes it again and again in a loop lets a
/// waiting fault pass each time, where std::mutex could starve it. Locked by any thread; the two sides use
/// the two guards below.
class PriorityMutex {
  public:
    /// For the fault path.
    class Urgent {
      public:
        explicit Urgent(PriorityMutex& mutex) : mutex_(mutex) {
            mutex_.waiting_.fetch_add(1, std::memory_order_relaxed);
            mutex_.lock(urgentYields);
            if (mutex_.waiting_.fetch_sub(1, std::memory_order_release) == 1) mutex_.waiting_.notify_all();
        }
        ~Urgent() { mutex_.mutex_.unlock(); }
        Urgent(const Urgent&) = delete;
        Urgent& operator=(const Urgent&) = delete;

      private:
        PriorityMutex& mutex_;
    };

    /// For everything else.
    class Patient {
      public:
        explicit Patient(PriorityMutex& mutex) : mutex_(mutex) {
            for (int i = 0; i < spins && mutex_.waiting_.load(std::memory_order_relaxed) != 0; ++i)
                __builtin_ia32_pause();
            for (auto waiting = mutex_.waiting_.load(); waiting != 0; waiting = mutex_.waiting_.load())
                mutex_.waiting_.wait(waiting);
            mutex_.lock(0);
        }
        ~Patient() { mutex_.mutex_.unlock(); }
        Patient(const Patient&) = delete;
        Patient& operator=(const Patient&) = delete;

      private:
        PriorityMutex& mutex_;
    };

  private:
    /// Some 20 us. What is done under these locks takes about as long, and waking a sleeping thread takes
    /// longer.
    static constexpr int spins = 500;
    /// Some 200 us, as long as the agent moves pages for a batch. The guest waits, and its processor is idle:
    /// asleep, we would wait for an interrupt to it, too. Who has work to do here does it meanwhile.
    static constexpr int urgentYields = 500;

    void lock(int yields) {
        for (int i = 0; i < spins + yields; ++i) {
            if (mutex_.try_lock()) return;
            if (i < spins)
                __builtin_ia32_pause();
            else
                ::sched_yield();
        }
        mutex_.lock();
    }

    std::mutex mutex_;
    std::atomic<unsigned> waiting_{0};
};

}  // namespace thermocline::memory
