// SPDX-License-Identifier: Apache-2.0
#pragma once

// Keeps a thread that serves another on the processor where that one runs. To wake a thread on another, idle
// processor costs many times what serving it does (an interrupt to it, and in a nested VM an exit). Decides
// when to look where the other is, and whether to go there: the less often, the more often that was in vain,
// be it that it is here already, or that it wanders, or that there are several on different processors. A
// failure changes nothing.

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <optional>

#include "memory/process_map.h"

namespace thermocline::memory {

class CpuFollower {
  public:
    static constexpr unsigned mostBetweenLooks = 64;

    /// Where the outside world begins; each is the real thing unless a test puts its own there.
    struct Seams {
        std::function<std::optional<int>(pid_t thread)> cpuOf;  ///< where it ran last, if that can be told
        std::function<bool(int cpu)> moveTo;                    ///< takes the calling thread there
    };
    /// For the calling thread, which alone calls what follows but cpu().
    CpuFollower();
    explicit CpuFollower(Seams seams) : seams_(std::move(seams)) {}

    /// The processor that it went to last; -1: none. (any thread)
    [[nodiscard]] int cpu() const { return cpu_.load(std::memory_order_relaxed); }

    // Where the other thread is woken as any: it goes where the scheduler puts it.

    void served() {
        if (untilLook_ > 0) --untilLook_;
    }
    [[nodiscard]] bool lookIsDue() const { return untilLook_ == 0; }
    /// Looks where `thread` is, and goes there if it was there the last time, too.
    void follow(pid_t thread);

    // Where we give way to it (give_way.h): it stays where it is, so we had better be there.

    /// It has, or has not, had a chance to go elsewhere.
    void mayHaveMoved(bool may) { mayHaveMoved_ = may; }
    /// To be asked each time before giving way: is stay() worth it?
    [[nodiscard]] bool stayIsDue();
    /// Looks where `thread` is, and goes there.
    void stay(pid_t thread);

  private:
    /// Is following worth its cost?
    struct Worth {
        unsigned pause = 1;  ///< times after which it is tried again
        bool tried = false;  ///< and not looked since

        void judge(bool moved);
    };
    [[nodiscard]] std::optional<int> elsewhere(pid_t thread);
    bool moveTo(int cpu);

    LastCpu lastCpu_;
    Seams seams_;
    std::atomic<int> cpu_{-1};
    unsigned untilLook_ = 0;
    unsigned betweenLooks_ = 1;
    int seenOn_ = -1;  // when it was last seen elsewhere
    Worth following_;
    Worth staying_;
    unsigned untilStay_ = 0;
    bool mayHaveMoved_ = true;
};

}  // namespace thermocline::memory
