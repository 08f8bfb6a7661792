// SPDX-License-Identifier: Apache-2.0
#include "memory/reclaimer.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <utility>

#include "common/byte_size.h"
#include "memory/host_room.h"

namespace thermocline::memory {
namespace {

constexpr auto longestRespite = std::chrono::seconds(64);
constexpr std::size_t maxPassed = 64;
/// What comes back to a VM that is paused, or is missing to one that is being copied, is looked for so often.
constexpr auto activityPause = std::chrono::seconds(1);

}  // namespace

Reclaimer::Reclaimer(Pager& pager, ColdStore& store, FrozenTier* frozen, Budget& budget, Guest guest)
    : pager_(pager),
      store_(store),
      frozen_(frozen),
      budget_(budget),
      guest_(std::move(guest)),
      clock_(pager.pages().blocks()),
      thread_([this] { run(); }) {}

Reclaimer::~Reclaimer() {
    stop();
}

void Reclaimer::stop() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wakeUp();
    if (thread_.joinable()) thread_.join();
}

void Reclaimer::setLimit(std::uint64_t bytes) {
    {
        const std::lock_guard lock(mutex_);
        budget_.setLimit(bytes);
        changed_ = true;
        restored_ = false;
        restoreError_.reset();
        restoring_ = bringsAllBack();
    }
    wakeUp();
}

void Reclaimer::setProactive(std::optional<ProactivePolicy::Settings> settings) {
    {
        const std::lock_guard lock(mutex_);
        if (settings)
            proactive_.emplace(*settings, pager_.memoryBytes());
        else
            proactive_.reset();
        changed_ = true;
        restored_ = false;
        restoreError_.reset();
        restoring_ = bringsAllBack();
    }
    wakeUp();
}

/// Whatever the thread waits for, it looks again.
void Reclaimer::wakeUp() {
    wake_.notify_all();
    if (frozen_ != nullptr) frozen_->settled();
}

std::optional<ProactivePolicy::Settings> Reclaimer::proactive() const {
    const std::lock_guard lock(mutex_);
    return proactive_ ? std::optional(proactive_->settings()) : std::nullopt;
}

void Reclaimer::memoryGrew() {
    if (budget_.limit() == 0 || !sleeping_.load(std::memory_order_relaxed)) return;
    if (!HardLimitPolicy(budget_.target()).mustStart(budget_.usedButSpare())) return;
    { const std::lock_guard lock(mutex_); }  // so that a wake-up cannot fall between its check and its sleep
    wake_.notify_all();
}

void Reclaimer::streamMoved(std::optional<BlockNumber> from, BlockNumber to, bool whole) {
    streamAt_.store(to, std::memory_order_relaxed);
    if (!from) return;
    // A hint: the fault path does not wait to give it.
    const std::unique_lock lock(passedMutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;
    passed_.push_back({*from, whole});
    if (passed_.size() > maxPassed) passed_.pop_front();
}

void Reclaimer::advised() {
    { const std::lock_guard lock(mutex_); }  // as in memoryGrew()
    wake_.notify_all();
}

std::string Reclaimer::note() const {
    const std::lock_guard lock(mutex_);
    return note_;
}

void Reclaimer::setNote(std::string note) {
    const std::lock_guard lock(mutex_);
    note_ = std::move(note);
}

Result<void> Reclaimer::awaitRestored() {
    std::unique_lock lock(mutex_);
    restoredChanged_.wait(lock, [&] { return restored_ || restoreError_ || managed() || stop_; });
    if (restored_) return {};
    if (restoreError_) return tl::unexpected(*restoreError_);
    return fail(ErrorCode::busy, "a new limit or policy was set meanwhile");
}

bool Reclaimer::workToDo() const {
    if (stop_ || changed_) return true;
    return budget_.limit() != 0 && HardLimitPolicy(budget_.target()).mustStart(budget_.usedButSpare());
}

HardLimitPolicy::Usage Reclaimer::usage() const {
    const auto& pages = pager_.pages();
    return {budget_.usedButSpare(), pages.count(PageState::resident) * pageBytes,
            pages.count(PageState::staged) * pageBytes};
}

void Reclaimer::run() {
    ::pthread_setname_np(::pthread_self(), "reclaimer");
    (void)::sched_getaffinity(0, sizeof allowedCpus_, &allowedCpus_);
    while (!stop_) {
        await();
        if (stop_) break;
        bool isManaged = false;
        bool closeTier = false;
        auto doing = Activity::running;
        {
            const std::lock_guard lock(mutex_);
            isManaged = managed();
            doing = activity_;
            closeTier = std::exchange(closeTier_, false);
        }
        if (closeTier) emptyFileTier();
        if (frozen_ != nullptr && pager_.tendFrozen()) guest_.wake();
        if (doing != Activity::copiedOut) endOfCopying();
        if (!isManaged) {
            restore();
            continue;
        }
        if (!registerGuest()) continue;
        if (doing == Activity::copiedOut && bringBackInOrder()) continue;
        if (budget_.limit() != 0) {
            reclaim();
        } else {
            pager_.keepCopies(false);
            while (dropCopies()) {
            }
        }
        if (doing == Activity::paused) {
            freezePaused();
            continue;
        }
        restoreWorkingSet();
        if (doing != Activity::copiedOut) probe();
        bringBackAdvised();
        tidyWhileIdle();
    }
    { const std::lock_guard lock(mutex_); }
    restoredChanged_.notify_all();
}

/// Sleeps until there is something to do.
void Reclaimer::await() {
    const auto due = [&] {
        const auto* advice = guest_.advice();
        return workToDo() || (managed() && advice != nullptr && advice->wantsBack());
    };
    std::unique_lock lock(mutex_);
    sleeping_ = true;
    auto until = respiteUntil_ != Clock::time_point{} ? respiteUntil_ : Clock::time_point::max();
    if (proactive_) until = std::min(until, Clock::now() + ProactivePolicy::tick);
    if (activity_ != Activity::running) until = std::min(until, Clock::now() + activityPause);
    if (managed() && (pager_.looseBlocks() > 0 || pager_.spareBytes() != 0))
        until = std::min(until, Clock::now() + calm);
    if (managed() && pager_.splitBlocks() > 0)
        until = std::min(until, std::max(rebuildAgain_, Clock::now() + calm));
    if (until == Clock::time_point::max())
        wake_.wait(lock, due);
    else
        wake_.wait_until(lock, until, due);
    sleeping_ = false;
    if (changed_) {
        nextInOrder_ = 0;
        hostShort_ = false;
        respite_ = firstRespite;
        respiteUntil_ = {};
        // What this thread may have decided while it changed was for the old limit: by that the guest would
        // wait for ever for room that nobody makes, or a limit given up would never be tried again.
        budget_.withdraw();
    } else if (respiteUntil_ != Clock::time_point{} && Clock::now() >= respiteUntil_) {
        respite_ = std::min(2 * respite_, longestRespite);
        respiteUntil_ = {};
        budget_.withdraw();
    }
    changed_ = false;
}

bool Reclaimer::registerGuest() {
    const auto registered = pager_.registerGuest();
    if (registered) return true;
    respiteUntil_ = Clock::now() + respite_;
    setNote("the guest's RAM cannot be watched: " + registered.error().message);
    return false;
}

/// One step of the proactive policy, if there is one: as much is staged as it says, and what was staged long
/// enough goes. What is staged, and what goes at once, is the advice's to say where there is one.
void Reclaimer::probe() {
    const auto now = Clock::now();
    const auto stall = guest_.stall();
    const auto faults = guest_.faults();
    const auto use = usage();
    ProactivePolicy::Decision decision;
    {
        const std::lock_guard lock(mutex_);
        if (!proactive_) return;
        if (probedAt_ != Clock::time_point{})
            decision = proactive_->next(
                {now - probedAt_, stall - stallBefore_, faults - faultsBefore_, use.resident, use.staged});
    }
    probedAt_ = now;
    progressAt_ = now;
    stallBefore_ = stall;
    faultsBefore_ = faults;
    if (decision.unstage) return unstage();
    const auto busy = [&] {
        const std::lock_guard lock(mutex_);
        return workToDo();
    };
    // Compressing takes no more than a share of one processor.
    const auto until = now + ProactivePolicy::tick / 4;
    // As many blocks as that, whatever becomes of each: hot and empty ones have been looked at, too.
    auto* const advice = guest_.advice();
    for (auto left = decision.stageBytes / blockBytes; left > 0 && !busy(); --left) {
        if (advice == nullptr) {
            if (stage(*clock_.toStage(), Pager::HotBlocks::passOver) == Step::gone) return;
        } else if (!(Clock::now() < until && evictAdvised()) && !stageAdvised()) {
            break;
        }
    }
    while (!clock_.poolEmpty() && Clock::now() - clock_.oldestSince() > ProactivePolicy::probation &&
           Clock::now() < until && !busy() && evictOldest()) {
    }
    while (Clock::now() < until && !busy() && freezeNext()) {
    }
    pager_.dropAllLeftovers();
}

/// Every page of these blocks; what is frozen will come. False where something else is to be done first.
/// Error: processGone; outOfMemory where the host has not enough.
Result<bool> Reclaimer::bringBack(const std::vector<BlockNumber>& blocks) {
    for (std::size_t next = 0; next < blocks.size() && pager_.registered();) {
        if (stop_) return fail(ErrorCode::processGone, "the VM's process has ended");
        {
            const std::lock_guard lock(mutex_);
            if (changed_) {
                restoredChanged_.notify_all();
                return false;
            }
        }
        if (next % 32 == 0 && hostAvailableBytes() < hostReserveBytes + 32 * blockBytes)
            return fail(ErrorCode::outOfMemory,
                        fmt::format("the host has not the memory to bring every page back ({} available); "
                                    "free some, or set a limit again",
                                    formatByteSize(hostAvailableBytes())));
        switch (pager_.restore(blocks[next])) {
            case Step::retry:
                std::this_thread::yield();
                break;
            case Step::gone:
                return fail(ErrorCode::processGone, "the VM's process has ended");
            default:
                if (frozen_ != nullptr && pager_.restoreFrozen(blocks[next])) guest_.wake();
                ++next;
                break;
        }
    }
    return true;
}

void Reclaimer::restore() {
    const auto finish = [&](std::optional<Error> error) {
        {
            const std::lock_guard lock(mutex_);
            if (changed_) return;
            restoreError_ = std::move(error);
            restored_ = !restoreError_;
            note_ = restoreError_ ? restoreError_->message : std::string{};
        }
        restoredChanged_.notify_all();
    };
    clock_.clearPool();
    workingSet_.clear();
    leftInMemory_ = 0;
    pager_.keepCopies(false);
    const auto order = pager_.hottestFirst();
    auto brought = bringBack(order);
    if (brought && *brought && frozen_ != nullptr) {
        awaitFrozen();
        // What a fault had read beside its page went to the store, perhaps behind our back.
        brought = bringBack(order);
        if (brought && *brought) awaitFrozen();
    }
    if (!brought) return finish(brought.error());
    if (!*brought) return;
    // Only now: the guest has to wait for no page any more, and a collapse copies all of the block once more.
    const auto leave = [&] {
        const std::lock_guard lock(mutex_);
        return stop_ || changed_;
    };
    for (auto block = order.begin(); block != order.end() && !leave(); ++block)
        pager_.rebuild(*block);
    while (dropCopies()) {
    }
    const auto left = pager_.unregisterGuest();
    store_.trim();
    if (!left) return finish(left.error());
    if (!*left)
        return finish(Error{ErrorCode::systemError,
                            "not every page could be brought back; see the log for the damaged ones"});
    finish(std::nullopt);
}

}  // namespace thermocline::memory
