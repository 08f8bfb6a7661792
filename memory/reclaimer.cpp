// SPDX-License-Identifier: Apache-2.0
#include "memory/reclaimer.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "common/byte_size.h"
#include "memory/host_room.h"
#include "memory/status.h"

namespace thermocline::memory {
namespace {

constexpr auto longestRespite = std::chrono::seconds(64);
/// So long reclaim looks in vain before it gives the limit up for a while: not long where the guest waits.
constexpr auto patience = std::chrono::seconds(1);
constexpr auto guestsPatience = std::chrono::milliseconds(100);
constexpr std::size_t maxPassed = 64;
constexpr std::uint64_t blocksInVain = 16;
constexpr auto cpuPatience = std::chrono::milliseconds(20);
/// So few that they are compressed before a guest that touches everything all the time comes by.
constexpr std::size_t forcedPages = 64;
/// So many turns of the clock's hand pass over what a policy keeps.
constexpr std::uint64_t keptTurns = 2;
constexpr auto calm = std::chrono::milliseconds(200);
/// What comes back to a VM that is paused, or is missing to one that is being copied, is looked for so often.
constexpr auto activityPause = std::chrono::seconds(1);
constexpr auto rebuildPause = std::chrono::seconds(1);
constexpr auto leastFreezeAge = std::chrono::milliseconds(500);
constexpr auto diskPause = std::chrono::milliseconds(5);
/// Shares of time in which the guest waits for room.
constexpr auto pressureWindow = std::chrono::milliseconds(20);
constexpr double waitsFrom = 0.01;
constexpr double overwhelmedFrom = 0.6;
constexpr double overwhelmedUntil = 0.2;

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

void Reclaimer::closeFileTier() {
    frozen_->close();
    {
        const std::lock_guard lock(mutex_);
        closeTier_ = true;
        changed_ = true;
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
    if (!HardLimitPolicy(budget_.target()).mustStart(budget_.used())) return;
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
    return budget_.limit() != 0 && HardLimitPolicy(budget_.target()).mustStart(budget_.used());
}

HardLimitPolicy::Usage Reclaimer::usage() const {
    const auto& pages = pager_.pages();
    return {budget_.used(), pages.count(PageState::resident) * pageBytes,
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
    if (managed() && pager_.looseBlocks() > 0) until = std::min(until, Clock::now() + calm);
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

/// Brings back what is staged: it is in the guest's way.
void Reclaimer::unstage() {
    while (!stop_) {
        const auto newest = clock_.takeNewest();
        if (!newest) return;
        (void)pager_.unstage(newest->block);
    }
}

/// What can be made better while the guest does not wait for us.
void Reclaimer::tidyWhileIdle() {
    const auto idle = [&] {
        const std::lock_guard lock(mutex_);
        return !workToDo() && managed() && Clock::now() - waitedLast_ > calm;
    };
    while (pager_.looseBlocks() > 0 && idle() && tightenNext()) {
    }
    // Where pages still come and go, the huge page would be split again.
    const std::uint64_t evicted = pager_.counters().evictedPages;
    if (std::exchange(evictedLast_, evicted) != evicted) evictedAt_ = Clock::now();
    if (Clock::now() - evictedAt_ < calm) return;
    while (idle() && rebuildNext()) {
    }
}

/// How much of the last moment did the guest wait for us?
void Reclaimer::observePressure() {
    const auto now = Clock::now();
    const auto elapsed = now - pressureSince_;
    if (elapsed < pressureWindow) return;
    const auto waited = guest_.waited();
    const double share = std::chrono::duration<double>(waited - waitedBefore_) / elapsed;
    if (waited != waitedBefore_) waitedLast_ = now;
    pressureSince_ = now;
    waitedBefore_ = waited;
    if (share > overwhelmedFrom || (pressure_ == Pressure::overwhelmed && share > overwhelmedUntil))
        pressure_ = Pressure::overwhelmed;
    else if (share > waitsFrom)
        pressure_ = Pressure::waits;
    else if (now - waitedLast_ > calm)
        pressure_ = Pressure::none;
}

void Reclaimer::reclaim() {
    const auto madeRoom = [&] {
        progressAt_ = Clock::now();
        budget_.reclaimed();
        guest_.roomMade();
    };
    progressAt_ = Clock::now();
    while (!stop_ && budget_.limit() != 0) {
        const auto action = HardLimitPolicy(budget_.target()).next(usage(), poolShare_.value());
        if (action == HardLimitPolicy::Action::nothing) {
            pager_.dropAllLeftovers();
            break;
        }
        {
            const std::lock_guard lock(mutex_);
            if (changed_) return;
        }
        observePressure();
        pager_.compactStore();
        pager_.keepCopies(pressure_ != Pressure::none);
        if (pressure_ == Pressure::none && dropCopies()) {
            madeRoom();
            continue;
        }
        if (freezeNext()) {
            madeRoom();
            continue;
        }
        if (evictAdvised()) {
            madeRoom();
            continue;
        }
        // Where nothing more can be staged, what is staged goes; where that is gone too, there is nothing
        // left to take.
        if (action == HardLimitPolicy::Action::stage && stageNext()) continue;
        if (evictOldest()) {
            madeRoom();
            continue;
        }
        pager_.dropAllLeftovers();
        // Round and round among pages that do not compress is no progress.
        const bool mayHelp = inVain_ < 2 * pager_.pages().blocks() && !outOfPatience();
        if (mayHelp && (!clock_.poolEmpty() || (action != HardLimitPolicy::Action::stage && stageNext())))
            continue;
        inVain_ = 0;
        if (dropCopies() || tightenNext()) {
            madeRoom();
            continue;
        }
        return concede();
    }
    budget_.reclaimed();
    if (budget_.target() != budget_.limit()) return;
    respite_ = firstRespite;
    setNote({});
}

/// The limit cannot be met, for a while at least: the guest gets what it needs beyond it, and somebody is
/// told.
void Reclaimer::concede() {
    if (respiteUntil_ == Clock::time_point{}) respiteUntil_ = Clock::now() + respite_;
    budget_.concede(HardLimitPolicy(budget_.limit()).headroom());
    const auto used = budget_.used();
    if (used > budget_.limit())
        setNote(
            fmt::format("{} over the limit with nothing left to take: the pages that are left do not "
                        "compress, are pinned, shared or in use; raise the limit",
                        formatByteSize(used - budget_.limit())));
    guest_.roomMade();
}

bool Reclaimer::outOfPatience() const {
    return Clock::now() - progressAt_ > (guest_.waits() ? Clock::duration(guestsPatience) : patience);
}

/// The guest and the thread that serves its faults take turns on one processor. There our work would hold
/// them up; on another it goes on beside them.
void Reclaimer::keepOffTheFaultsCpu() {
    const int cpu = guest_.cpu();
    if (cpu == avoidedCpu_) return;
    // Not at once: moving costs something, too, and where the guest wanders it would go on for ever.
    const auto now = Clock::now();
    if (now - avoidedSince_ < cpuPatience) return;
    avoidedSince_ = now;
    auto set = allowedCpus_;
    if (cpu >= 0) CPU_CLR(cpu, &set);
    if (CPU_COUNT(&set) == 0) set = allowedCpus_;
    (void)::sched_setaffinity(0, sizeof set, &set);
    avoidedCpu_ = cpu;
}

Step Reclaimer::stage(BlockNumber block, Pager::HotBlocks hot, bool passed) {
    keepOffTheFaultsCpu();
    const auto step = pager_.stage(block, hot, poolShare_.forced() && !passed ? forcedPages : pagesPerBlock);
    if (pager_.takePutOff()) guest_.wake();
    if (step == Step::done) clock_.staged(block, passed);
    if (step == Step::gone) stop_ = true;
    if (step == Step::retry) std::this_thread::yield();
    return step;
}

bool Reclaimer::stagePassed() {
    for (;;) {
        BlockNumber block = 0;
        bool whole = false;
        {
            const std::lock_guard lock(passedMutex_);
            if (passed_.empty()) return false;
            block = passed_.front().block;
            whole = passed_.front().whole;
            passed_.pop_front();
        }
        if (const auto* advice = guest_.advice(); advice != nullptr && advice->keeps(block)) continue;
        // As one huge page it is moved, and brought back, at a fraction of the cost.
        if (whole && pager_.rebuild(block) == Step::gone) return false;
        if (stage(block, whole ? Pager::HotBlocks::passed : Pager::HotBlocks::split, true) == Step::done)
            return true;
    }
}

/// What the advice names, whatever its heat: it may know better.
bool Reclaimer::stageAdvised() {
    auto* const advice = guest_.advice();
    while (advice != nullptr && !stop_ && !outOfPatience()) {
        const auto block = advice->toStage();
        if (!block) return false;
        if (stage(*block, Pager::HotBlocks::take) != Step::done) continue;
        advice->carriedOut();
        return true;
    }
    return false;
}

/// What the advice names first, then what a stream has passed; else moves the clock's hand on until one block
/// could be staged; false after as many turns as the hottest page is passed over without one.
bool Reclaimer::stageNext() {
    if (stageAdvised() || stagePassed()) return true;
    const auto* const keeper = guest_.advice();
    const auto blocks = pager_.pages().blocks();
    for (std::uint64_t tries = 0; tries < (1U << Heat::maxLevel) * blocks && !stop_ && !outOfPatience();
         ++tries) {
        const auto block = *clock_.toStage();
        if (keeper != nullptr && tries < keptTurns * blocks && keeper->keeps(block)) continue;
        if (tries < blocks && block == streamAt_.load(std::memory_order_relaxed)) continue;
        if (stage(block, Pager::HotBlocks::split) != Step::done) continue;
        // Forced, it takes a part of the block: the rest comes next.
        if (poolShare_.forced()) clock_.again();
        return true;
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

/// How long nothing of a block must have been wanted for it to go to the file tier. A read from there costs
/// some twenty times what one from the store does, and what it frees keeps half a page more in memory; so it
/// pays for pages that are wanted less than a fortieth as often as those that come and go. A block of 512
/// pages that saw none of its own in two turnovers of memory is well below that.
std::chrono::milliseconds Reclaimer::freezeAge() {
    const auto now = Clock::now();
    const auto& pages = pager_.pages();
    const auto inMemory = pages.count(PageState::resident) + pages.count(PageState::staged);
    const std::uint64_t evicted = pager_.counters().evictedPages;
    if (evicted - evictedBefore_ >= inMemory) {
        lastTurnover_ = now - turnoverBegan_;
        turnoverBegan_ = now;
        evictedBefore_ = evicted;
    }
    const auto turnover = std::max(lastTurnover_, now - turnoverBegan_);
    if (turnover > frozen_->age() / 2) return frozen_->age();
    return std::min(frozen_->age(),
                    std::max(leastFreezeAge, std::chrono::ceil<std::chrono::milliseconds>(2 * turnover)));
}

/// Moves the next block that has been cold for long to the file tier.
bool Reclaimer::freezeNext() {
    if (frozen_ == nullptr || !frozen_->open() || Clock::now() < freezeAgain_) return false;
    const auto blocks = pager_.pages().blocks();
    const auto age = freezeAge();
    auto pause = Clock::duration(age) / 8;
    for (std::uint64_t tries = 0; tries < blocks; ++tries) {
        const auto step = pager_.freeze(frozenHand_, age);
        if (step == Step::retry) {
            pause = diskPause;
            break;
        }
        frozenHand_ = (frozenHand_ + 1) % blocks;
        if (step == Step::done) return true;
        if (step == Step::full) break;
    }
    freezeAgain_ = Clock::now() + pause;
    return false;
}

/// The kill switch: the key goes only once nothing needs it any more.
void Reclaimer::emptyFileTier() {
    for (BlockNumber block = 0; block < pager_.pages().blocks() && !stop_; ++block)
        if (pager_.thaw(block) == Step::full) return frozen_->shut("no memory to take its pages back");
    awaitFrozen();
    if (pager_.pages().count(PageState::frozen) != 0) {
        const std::lock_guard lock(mutex_);
        closeTier_ = changed_;
        if (closeTier_) return;  // a new limit came first: the rest of it after that
        return frozen_->shut("not every page could be taken out of it; see the log for the damaged ones");
    }
    const auto killed = frozen_->store().killSwitch();
    frozen_->shut(killed ? std::string(fileTierSwitchedOff) : killed.error().message);
}

/// Waits until what was wanted from the file tier has come, or there is something else to do.
void Reclaimer::awaitFrozen() {
    guest_.wake();
    frozen_->awaitWanted([&] {
        const std::lock_guard lock(mutex_);
        return stop_ || changed_ || guest_.ended();
    });
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

/// Makes one huge page of the next block that was one and is all there again.
bool Reclaimer::rebuildNext() {
    if (pager_.splitBlocks() == 0 || Clock::now() < rebuildAgain_) return false;
    const auto blocks = pager_.pages().blocks();
    for (std::uint64_t tries = 0; tries < blocks && budget_.hasRoom(blockBytes); ++tries) {
        splitHand_ = (splitHand_ + 1) % blocks;
        const auto step = pager_.rebuild(splitHand_);
        if (step == Step::gone) stop_ = true;
        if (step != Step::nothing) return !stop_;
    }
    rebuildAgain_ = Clock::now() + rebuildPause;
    return false;
}

Algorithm Reclaimer::algorithm(bool passed) const {
    return passed || pressure_ == Pressure::overwhelmed ? Algorithm::lz4 : Algorithm::zstd;
}

Step Reclaimer::evict(BlockNumber block, Algorithm algorithm, Pager::Poor poor) {
    const auto step = pager_.evict(block, algorithm, poor);
    if (step == Step::done) {
        inVain_ = 0;
        if (auto* const advice = guest_.advice(); advice != nullptr) advice->wentCold(block);
    }
    if (step == Step::full)
        setNote("the store has no room: free memory for the file system of the run-time directory");
    if (step == Step::gone) stop_ = true;
    return step;
}

/// Evicts the block that has been staged longest; true where that freed memory.
bool Reclaimer::evictOldest() {
    keepOffTheFaultsCpu();
    while (!stop_ && !outOfPatience()) {
        const auto oldest = clock_.takeOldest();
        if (!oldest) return false;
        // What does not compress goes to a disk only if it is not wanted, or if there is nothing else to
        // take.
        const bool freeze =
            frozen_ != nullptr && (inVain_ >= blocksInVain ||
                                   Clock::now() - oldest->since >=
                                       std::min<Clock::duration>(frozen_->age(), ProactivePolicy::probation));
        const bool whole = pager_.takeStreamed(oldest->block);
        switch (evict(oldest->block, algorithm(whole || oldest->passed),
                      freeze  ? Pager::Poor::freeze
                      : whole ? Pager::Poor::store
                              : Pager::Poor::moveBack)) {
            case Step::done:
                poolShare_.evicted();
                return true;
            case Step::touched:
                poolShare_.touched();
                break;
            case Step::poor:
                ++inVain_;
                break;
            case Step::full:
            case Step::gone:
                return false;
            default:
                break;
        }
    }
    return false;
}

/// Evicts what the advice names, which need not be staged yet; true where that freed memory.
bool Reclaimer::evictAdvised() {
    auto* const advice = guest_.advice();
    while (advice != nullptr && !stop_ && !outOfPatience()) {
        const auto block = advice->toEvict();
        if (!block) return false;
        // The clock has it in its pool afterwards where some of it stays staged, and only then.
        clock_.forget(*block);
        (void)stage(*block, Pager::HotBlocks::take);
        const auto step = evict(*block, algorithm(false), Pager::Poor::moveBack);
        clock_.forget(*block);
        if (pager_.stagedPages(*block).any()) clock_.staged(*block, false);
        if (step == Step::full) return false;
        if (step != Step::done) continue;
        advice->carriedOut();
        return true;
    }
    return false;
}

/// Brings back what the advice names, as long as there is room and nothing else to do.
void Reclaimer::bringBackAdvised() {
    auto* const advice = guest_.advice();
    while (advice != nullptr && advice->wantsBack() && !stop_) {
        {
            const std::lock_guard lock(mutex_);
            if (workToDo()) return;
        }
        const auto block = advice->toBringBack();
        if (!block || !budget_.hasRoom(blockBytes)) continue;
        const auto step = pager_.restore(*block);
        if (step == Step::gone) stop_ = true;
        if (step == Step::retry) std::this_thread::yield();
        clock_.forget(*block);
        if (pager_.stagedPages(*block).any()) clock_.staged(*block, false);
        if (step == Step::done) advice->carriedOut();
    }
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
    for (std::size_t next = 0; next < order.size();) {
        if (stop_) return finish(Error{ErrorCode::processGone, "the VM's process has ended"});
        {
            const std::lock_guard lock(mutex_);
            if (changed_) {
                restoredChanged_.notify_all();
                return;
            }
        }
        if (next % 32 == 0 && pager_.registered() &&
            hostAvailableBytes() < hostReserveBytes + 32 * blockBytes)
            return finish(Error{
                ErrorCode::outOfMemory,
                fmt::format("the host has not the memory to bring every page back ({} available); free some, "
                            "or set a limit again",
                            formatByteSize(hostAvailableBytes()))});
        if (!pager_.registered()) break;
        switch (pager_.restore(order[next])) {
            case Step::retry:
                std::this_thread::yield();
                break;
            case Step::gone:
                return finish(Error{ErrorCode::processGone, "the VM's process has ended"});
            default:
                if (frozen_ != nullptr && pager_.restoreFrozen(order[next])) guest_.wake();
                ++next;
                break;
        }
    }
    if (frozen_ != nullptr) awaitFrozen();
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
