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
/// Who is being taken care of this very moment looks as if it waited, but not for so long.
constexpr auto moment = std::chrono::microseconds(50);
/// The keeper rests after so many without a turn: waking it costs more than a turn saves.
constexpr unsigned mostTicksInVain = 20;
constexpr std::chrono::nanoseconds firstPause = std::chrono::milliseconds(200);
constexpr std::chrono::nanoseconds longestPause = std::chrono::seconds(30);

bool setPolicy(pid_t thread, int policy) {
    const sched_param none{};
    return ::sched_setscheduler(thread, policy, &none) == 0;
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
    takeBack();  // first: soon nobody looks any more
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    if (keeper_.joinable()) keeper_.join();
}

// Both sides write first and look then (sequentially consistent): either the keeper sees that a turn has
// begun, or we see that it is about to rest. So no turn goes unwatched.
void GiveWay::stepAside() {
    const bool already = aside_.exchange(true);
    turns_.fetch_add(1);
    if (resting_.load() && resting_.exchange(false)) {
        { const std::lock_guard lock(mutex_); }  // so that it cannot fall between its check and its sleep
        changed_.notify_all();
    }
    if (!already) setPolicy(0, SCHED_IDLE);
}

// The flag first, on both sides: whoever takes it down gives the class back afterwards, and the keeper does
// nothing else. So a thread that is SCHED_IDLE has its flag up, and is watched; at worst the keeper comes
// late and one that has its flag up is SCHED_OTHER.
void GiveWay::takeBack() {
    if (aside_.load(std::memory_order_relaxed) && aside_.exchange(false)) setPolicy(0, SCHED_OTHER);
}

void GiveWay::keep() {
    ::pthread_setname_np(::pthread_self(), "keeper");
    // Could it be undone? Tried out where it does no harm.
    if (!setPolicy(0, SCHED_IDLE) || !setPolicy(0, SCHED_OTHER)) return;
    possible_ = true;
    std::unique_lock lock(mutex_);
    auto seen = turns_.load();
    for (unsigned inVain = 0; !stop_;) {
        if (inVain >= mostTicksInVain) {
            resting_ = true;
            if (turns_.load() == seen && !aside_.load())
                changed_.wait(lock, [&] { return stop_ || !resting_; });
            resting_ = false;
            inVain = 0;
        } else {
            changed_.wait_for(lock, tick, [&] { return stop_; });
        }
        const auto now = turns_.load();
        const bool aside = aside_.load();
        inVain = now == seen && !aside ? inVain + 1 : 0;
        if (now == seen && aside) rescue(lock);
        seen = now;
    }
}

void GiveWay::rescue(std::unique_lock<std::mutex>& lock) {
    const auto turn = turns_.load();
    const auto held = [&] { return aside_.load() && turns_.load() == turn; };
    bool harmful = wanted_();
    if (harmful) {
        changed_.wait_for(lock, moment, [&] { return stop_; });
        if (!held()) return;  // it was not held up, and has had its turn
        harmful = wanted_();
    }
    if (!aside_.exchange(false)) return;
    setPolicy(thread_, SCHED_OTHER);
    rescues_.fetch_add(1, std::memory_order_relaxed);
    if (!harmful) return;
    const auto now = Clock::now().time_since_epoch();
    const bool again = now.count() < notBefore_.load() + longestPause.count();
    pause_ = std::clamp(again ? 2 * pause_ : firstPause, firstPause, longestPause);
    notBefore_ = (now + pause_).count();
}

}  // namespace thermocline::memory
