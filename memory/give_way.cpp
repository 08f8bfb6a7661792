// SPDX-License-Identifier: Apache-2.0
#include "memory/give_way.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace thermocline::memory {
namespace {

constexpr auto tick = std::chrono::milliseconds(1);
/// The keeper rests after so many without a turn: waking it costs more than a turn saves.
constexpr unsigned mostTicksInVain = 20;
constexpr std::chrono::nanoseconds firstPause = std::chrono::milliseconds(200);
constexpr std::chrono::nanoseconds longestPause = std::chrono::seconds(30);

bool setPolicy(pid_t thread, int policy) {
    const sched_param none{};
    return ::sched_setscheduler(thread, policy, &none) == 0;
}

constexpr bool aside(std::uint64_t turns) {
    return turns % 2 != 0;
}

}  // namespace

GiveWay::GiveWay(std::function<bool()> wanted) : thread_(::gettid()), wanted_(std::move(wanted)) {
    if (::sched_getscheduler(0) != SCHED_OTHER) return;
    try {
        keeper_ = std::thread([this] { keep(); });
    } catch (const std::system_error&) {
        // No thread can be had: nothing that faults must not be served for.
    }
}

GiveWay::~GiveWay() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    if (keeper_.joinable()) keeper_.join();
}

// Both sides write first and look then (sequentially consistent): either the keeper sees that a turn has
// begun, or we see that it is about to rest. So no turn goes unwatched.
void GiveWay::begin() {
    turns_.fetch_add(1);
    if (resting_.load() && resting_.exchange(false)) {
        { const std::lock_guard lock(mutex_); }  // so that it cannot fall between its check and its sleep
        changed_.notify_all();
    }
    setPolicy(0, SCHED_IDLE);
}

// The keeper only ever gives the class back: whichever of the two is last, it is SCHED_OTHER.
void GiveWay::end() {
    setPolicy(0, SCHED_OTHER);
    turns_.fetch_add(1);
}

void GiveWay::keep() {
    ::pthread_setname_np(::pthread_self(), "keeper");
    // Could it be undone? Tried out where it does no harm.
    if (!setPolicy(0, SCHED_IDLE) || !setPolicy(0, SCHED_OTHER)) return;
    possible_ = true;
    std::unique_lock lock(mutex_);
    auto seen = turns_.load();
    std::uint64_t rescued = 0;
    for (unsigned inVain = 0; !stop_;) {
        if (inVain >= mostTicksInVain) {
            resting_ = true;
            if (turns_.load() == seen) changed_.wait(lock, [&] { return stop_ || !resting_; });
            resting_ = false;
            inVain = 0;
        } else {
            changed_.wait_for(lock, tick, [&] { return stop_; });
        }
        const auto now = turns_.load();
        inVain = now == seen && !aside(now) ? inVain + 1 : 0;
        if (now == seen && aside(now) && std::exchange(rescued, now) != now) rescue();
        seen = now;
    }
}

void GiveWay::rescue() {
    const bool harmful = wanted_();
    setPolicy(thread_, SCHED_OTHER);
    rescues_.fetch_add(1, std::memory_order_relaxed);
    if (!harmful) return;
    const auto now = Clock::now().time_since_epoch();
    const bool again = now.count() < notBefore_.load() + longestPause.count();
    pause_ = std::clamp(again ? 2 * pause_ : firstPause, firstPause, longestPause);
    notBefore_ = (now + pause_).count();
}

}  // namespace thermocline::memory
