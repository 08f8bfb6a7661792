// SPDX-License-Identifier: Apache-2.0
#include "memory/reclaimer.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "common/byte_size.h"
#include "memory/process_map.h"

namespace thermocline::memory {
namespace {

/// After reclaim found nothing more to take it looks again this often: the guest may have made pages that
/// compress.
constexpr auto hopelessPause = std::chrono::seconds(1);
/// Host memory that bringing pages back leaves free.
constexpr std::uint64_t hostReserveBytes = 64U << 20;
constexpr std::size_t maxPassed = 64;
constexpr auto hurry = std::chrono::milliseconds(200);

std::uint64_t hostAvailableBytes() {
    const auto text = readProcFile("/proc/meminfo");
    return text ? statusField(*text, "MemAvailable") : UINT64_MAX;
}

}  // namespace

Reclaimer::Reclaimer(Pager& pager, ColdStore& store, Budget& budget, std::function<void()> roomMade)
    : pager_(pager), store_(store), budget_(budget), roomMade_(std::move(roomMade)), thread_([this] {
          run();
      }) {}

Reclaimer::~Reclaimer() {
    stop();
}

void Reclaimer::stop() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void Reclaimer::setLimit(std::uint64_t bytes) {
    {
        const std::lock_guard lock(mutex_);
        budget_.setLimit(bytes);
        limitChanged_ = true;
        hopeless_ = false;
        restored_ = false;
        restoreError_.reset();
    }
    wake_.notify_all();
}

void Reclaimer::memoryGrew() {
    const auto limit = budget_.limit();
    if (limit == 0 || !sleeping_.load(std::memory_order_relaxed) || hopeless()) return;
    if (!HardLimitPolicy(limit).mustStart(budget_.used())) return;
    { const std::lock_guard lock(mutex_); }  // so that a wake-up cannot fall between its check and its sleep
    wake_.notify_all();
}

void Reclaimer::passedBy(BlockNumber block) {
    // A hint: the fault path does not wait to give it.
    const std::unique_lock lock(passedMutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;
    passed_.push_back(block);
    if (passed_.size() > maxPassed) passed_.pop_front();
}

void Reclaimer::guestWaits() {
    guestWaited_.store(std::chrono::steady_clock::now(), std::memory_order_relaxed);
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
    restoredChanged_.wait(lock, [&] { return restored_ || restoreError_ || budget_.limit() != 0 || stop_; });
    if (restored_) return {};
    if (restoreError_) return tl::unexpected(*restoreError_);
    return fail(ErrorCode::busy, "a new limit was set meanwhile");
}

bool Reclaimer::workToDo() const {
    if (stop_ || limitChanged_) return true;
    const auto limit = budget_.limit();
    return limit != 0 && HardLimitPolicy(limit).mustStart(budget_.used());
}

HardLimitPolicy::Usage Reclaimer::usage() const {
    const auto& pages = pager_.pages();
    return {budget_.used(), pages.count(PageState::resident) * pageBytes,
            pages.count(PageState::staged) * pageBytes};
}

void Reclaimer::run() {
    while (!stop_) {
        {
            std::unique_lock lock(mutex_);
            if (hopeless_ && !limitChanged_) {
                wake_.wait_for(lock, hopelessPause, [&] { return stop_ || limitChanged_; });
            } else if (pager_.looseBlocks() > 0 && budget_.limit() != 0) {
                sleeping_ = true;
                wake_.wait_for(lock, hurry, [&] { return workToDo(); });
                sleeping_ = false;
                if (!workToDo()) {
                    lock.unlock();
                    while (idle() && tightenNext()) {
                    }
                    continue;
                }
            } else {
                sleeping_ = true;
                wake_.wait(lock, [&] { return workToDo(); });
                sleeping_ = false;
            }
            limitChanged_ = false;
        }
        if (stop_) break;
        if (budget_.limit() != 0)
            reclaim();
        else
            restore();
    }
    { const std::lock_guard lock(mutex_); }
    restoredChanged_.notify_all();
}

void Reclaimer::reclaim() {
    const HardLimitPolicy policy(budget_.limit());
    if (const auto registered = pager_.registerGuest(); !registered) {
        hopeless_ = true;
        setNote("the guest's RAM cannot be watched: " + registered.error().message);
        return;
    }
    bool freed = false;
    const auto madeRoom = [&] {
        freed = true;
        hopeless_ = false;
        budget_.reclaimed();
        roomMade_();
    };
    while (!stop_ && budget_.limit() != 0) {
        const auto action = policy.next(usage());
        if (action == HardLimitPolicy::Action::nothing) break;
        // Copies cost memory and save time: worth it while the guest waits for us.
        const bool hurry = hurried();
        pager_.keepCopies(hurry);
        if (!hurry && dropCopies()) {
            madeRoom();
            continue;
        }
        {
            const std::lock_guard lock(mutex_);
            if (limitChanged_) return;
        }
        // Where nothing more can be staged, what is staged goes; where that is gone too, there is nothing
        // left to take.
        if (action == HardLimitPolicy::Action::stage && stageNext()) continue;
        if (evictOldest()) {
            madeRoom();
            continue;
        }
        if (!staged_.empty() || (action != HardLimitPolicy::Action::stage && stageNext())) continue;
        if (dropCopies() || tightenNext()) {
            madeRoom();
            continue;
        }
        hopeless_ = true;
        const auto pages = pager_.pages().count(PageState::staged);
        if (!budget_.limitMet() && note().empty())
            setNote(fmt::format(
                "{} over the limit with nothing left to take: {} do not compress, the rest is pinned, shared "
                "or in use; raise the limit",
                formatByteSize(budget_.used() - std::min(budget_.used(), budget_.limit())),
                formatByteSize(pages * pageBytes)));
        roomMade_();
        return;
    }
    budget_.reclaimed();
    if (freed || budget_.limitMet()) {
        hopeless_ = false;
        setNote({});
    }
}

bool Reclaimer::stagePassed() {
    for (;;) {
        BlockNumber block = 0;
        {
            const std::lock_guard lock(passedMutex_);
            if (passed_.empty()) return false;
            block = passed_.front();
            passed_.pop_front();
        }
        if (pager_.stage(block) == Step::done) {
            staged_.push_back(block);
            return true;
        }
    }
}

/// What a stream has passed first; else moves the clock's hand on until one block could be staged; false
/// after as many turns as the hottest page is passed over without one.
bool Reclaimer::stageNext() {
    if (stagePassed()) return true;
    const auto blocks = pager_.pages().blocks();
    for (std::uint64_t tries = 0; tries < (1U << Heat::maxLevel) * blocks && !stop_; ++tries) {
        const auto block = hand_;
        hand_ = (hand_ + 1) % blocks;
        switch (pager_.stage(block)) {
            case Step::done:
                staged_.push_back(block);
                return true;
            case Step::retry:
                std::this_thread::yield();
                break;
            case Step::gone:
                stop_ = true;
                return false;
            default:
                break;
        }
    }
    return false;
}

/// Frees the copies of the next block that has some.
bool Reclaimer::dropCopies() {
    const auto blocks = pager_.pages().blocks();
    for (std::uint64_t tries = 0; tries < blocks && pager_.copyBytes() > 0; ++tries) {
        copyHand_ = (copyHand_ + 1) % blocks;
        if (pager_.dropCopies(copyHand_) == Step::done) return true;
    }
    return false;
}

/// Compresses the next block again that was compressed for speed.
bool Reclaimer::tightenNext() {
    const auto blocks = pager_.pages().blocks();
    for (std::uint64_t tries = 0; tries < blocks && pager_.looseBlocks() > 0; ++tries) {
        looseHand_ = (looseHand_ + 1) % blocks;
        if (pager_.tighten(looseHand_) == Step::done) return true;
    }
    return false;
}

bool Reclaimer::idle() const {
    const std::lock_guard lock(mutex_);
    return !workToDo() && !hurried() && budget_.limit() != 0;
}

/// Memory is what the limit makes scarce, until reclaim falls behind and the guest has to wait for it.
bool Reclaimer::hurried() const {
    return std::chrono::steady_clock::now() - guestWaited_.load(std::memory_order_relaxed) < hurry;
}

/// Evicts the block that has been staged longest; true where that freed memory.
bool Reclaimer::evictOldest() {
    while (!staged_.empty() && !stop_) {
        const auto block = staged_.front();
        staged_.pop_front();
        switch (pager_.evict(block, hurried() ? Algorithm::lz4 : Algorithm::zstd)) {
            case Step::done:
                return true;
            case Step::full:
                setNote("the store has no room: free memory for the file system of the run-time directory");
                return false;
            case Step::gone:
                stop_ = true;
                return false;
            default:
                break;
        }
    }
    return false;
}

void Reclaimer::restore() {
    const auto finish = [&](std::optional<Error> error) {
        {
            const std::lock_guard lock(mutex_);
            if (limitChanged_) return;
            restoreError_ = std::move(error);
            restored_ = !restoreError_;
            note_ = restoreError_ ? restoreError_->message : std::string{};
        }
        restoredChanged_.notify_all();
    };
    staged_.clear();
    pager_.keepCopies(false);
    for (BlockNumber block = 0; block < pager_.pages().blocks();) {
        if (stop_) return finish(Error{ErrorCode::processGone, "the VM's process has ended"});
        {
            const std::lock_guard lock(mutex_);
            if (limitChanged_) {
                restoredChanged_.notify_all();
                return;
            }
        }
        if (block % 32 == 0 && pager_.registered() &&
            hostAvailableBytes() < hostReserveBytes + 32 * blockBytes)
            return finish(Error{
                ErrorCode::outOfMemory,
                fmt::format("the host has not the memory to bring every page back ({} available); free some, "
                            "or set a limit again",
                            formatByteSize(hostAvailableBytes()))});
        if (!pager_.registered()) break;
        switch (pager_.restore(block)) {
            case Step::retry:
                std::this_thread::yield();
                break;
            case Step::gone:
                return finish(Error{ErrorCode::processGone, "the VM's process has ended"});
            default:
                ++block;
                break;
        }
    }
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
