// SPDX-License-Identifier: Apache-2.0
#include "memory/fault_handler.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "memory/process_map.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {
namespace {

/// A guest thread on this CPU is back sooner, if it faults all the time; one that was woken on another is
/// not.
constexpr auto pauseWhereMoved = std::chrono::microseconds(25);
/// A system call that need not wait takes no longer.
constexpr auto atOnce = std::chrono::microseconds(10);
/// After a longer pause a thread is woken as any other: it is not worth the keeper's ticks.
constexpr auto longestPauseToGiveWay = std::chrono::milliseconds(10);
constexpr unsigned givingsBetweenLooks = 1024;
constexpr int retryMilliseconds = 1;
/// For how long a stream waits for room for a whole block: several times what making it takes.
constexpr auto patienceForBlock = std::chrono::milliseconds(100);

}  // namespace

FaultHandler::FaultHandler(Pager& pager, Userfault& guest, const Budget& budget, int process, Hooks hooks)
    : pager_(pager),
      guest_(guest),
      budget_(budget),
      hooks_(std::move(hooks)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this, process] { run(process); }) {}

FaultHandler::~FaultHandler() {
    stop();
}

void FaultHandler::stop() {
    stop_ = true;
    wake();
    if (thread_.joinable()) thread_.join();
}

void FaultHandler::wake() {
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
}

void FaultHandler::run(int process) {
    ::pthread_setname_np(::pthread_self(), "fault-handler");
    std::array<pollfd, 4> polled{pollfd{guest_.fd(), POLLIN, 0}, pollfd{wake_.get(), POLLIN, 0},
                                 pollfd{process, POLLIN, 0}, pollfd{pager_.diskEvent(), POLLIN, 0}};
    giveWay_.emplace([this] {
        pollfd faults{guest_.fd(), POLLIN, 0};
        return ::poll(&faults, 1, 0) > 0;
    });
    auto stallBegan = std::chrono::steady_clock::time_point{};
    while (!stop_) {
        const bool waiting = !pending_.empty();
        const bool stalled = waiting || pager_.waitsForDisk();
        ::poll(polled.data(), polled.size(), !waiting ? -1 : retryMilliseconds);
        if (polled[2].revents != 0) break;
        if (!stalled) {
            stallBegan = std::chrono::steady_clock::now();
            pause_ = stallBegan - served_;
            // Who runs here runs before we do, since we gave way: then its next fault was there already.
            if (gaveWay_) follower_.mayHaveMoved(stallBegan - *gaveWay_ > atOnce);
        }
        gaveWay_.reset();
        if (polled[1].revents != 0) {
            std::uint64_t count = 0;
            (void)!::read(wake_.get(), &count, sizeof count);
        }
        bool served = false;
        const auto accountStall = [&] {
            const auto now = std::chrono::steady_clock::now();
            const auto stall = static_cast<std::uint64_t>((now - stallBegan).count());
            stallNanoseconds_.fetch_add(stall, std::memory_order_relaxed);
            if (waitsForRoom()) waitedNanoseconds_.fetch_add(stall, std::memory_order_relaxed);
            stallBegan = now;
            served_ = now;
        };
        if (stalled) accountStall();
        if (polled[3].revents != 0) {
            pager_.finishReads([&](VmAddress address) { pending_.push_back({address, false, 0}); });
            served = true;
        }
        pager_.bringWanted();
        for (readMessages(); !pending_.empty(); readMessages()) {
            const auto before = pending_.size();
            if (!servePending()) {
                // The process is ending; its pidfd says when.
                pending_.clear();
                break;
            }
            accountStall();
            served = served || pending_.size() < before;
            // All served: poll() says whether there is more to read. None: wait for a message, for room or a
            // moment.
            if (pending_.empty() || pending_.size() == before) break;
        }
        if (served) hooks_.memoryGrew();
        wakeAsleep();
        // Neither the guest nor its stall waits for the looking, and the pause begins after it.
        if (const auto thread = std::exchange(toFollow_, std::nullopt)) {
            follower_.follow(*thread);
            served_ = std::chrono::steady_clock::now();
        }
    }
    giveWay_.reset();
    if (!stop_) hooks_.processEnded();
}

void FaultHandler::readMessages() {
    std::size_t count = 0;
    do {
        // Events before faults: a fault that was read with a REMOVE of its page must not be given the old
        // bytes, since the reading alone lets the kernel go on to drop the page.
        const PriorityMutex::Urgent layout(pager_.layout());
        auto& journal = pager_.journal();
        const auto messages = journal.buffer();
        count = guest_.read(messages);
        for (std::size_t i = 0; i < count; ++i) {
            if (messages[i].event == UFFD_EVENT_PAGEFAULT) continue;
            sequencePoint("event-read");
            pager_.applyEvent(messages[i]);
            sequencePoint("event-applied");
            journal.applied(i);
        }
        for (std::size_t i = 0; i < count; ++i) {
            if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
            const auto& fault = messages[i].arg.pagefault;
            pending_.push_back({{fault.address},
                                (fault.flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0,
                                static_cast<pid_t>(fault.feat.ptid)});
            faults_.fetch_add(1, std::memory_order_relaxed);
        }
        journal.forget(count);
    } while (count == EventJournal::mostMessages);
}

bool FaultHandler::servePending() {
    if (hooks_.messagesRead) hooks_.messagesRead();
    std::size_t kept = 0;
    bool noRoom = false;
    const auto waking = givesWay() ? Waking::later : Waking::now;
    const auto thread = pending_.front().thread;
    if (waking == Waking::now) {
        giveWay_->takeBack();
    } else if (follower_.stayIsDue()) {
        giveWay_->takeBack();  // or we did not give way: the keeper's help came late
        follower_.stay(thread);
    }
    for (std::size_t i = 0; i < pending_.size(); ++i) {
        const auto fault = pending_[i];
        if (pager_.needsRoom(fault.address) && !budget_.hasRoom(pageBytes)) {
            noRoom = true;
            pending_[kept++] = fault;
            continue;
        }
        if (hooks_.served && !(awaited_ && awaited_->address == fault.address)) tell(fault.address);
        if (pager_.inStore(fault.address) && !bringAlong(fault.address)) {
            noRoom = true;
            pending_[kept++] = fault;
            continue;
        }
        switch (pager_.serve(fault.address, fault.write, budget_.room(), waking)) {
            case Served::asleep:
                asleep_ = fault.address;
                [[fallthrough]];
            case Served::done:
            case Served::reading:
            case Served::lost:
                follower_.served();
                break;
            case Served::retry:
                pending_[kept++] = fault;
                break;
            case Served::gone:
                return false;
        }
    }
    pending_.resize(kept);
    const bool newlyWaiting = noRoom && !waitsForRoom_.exchange(noRoom);
    if (!noRoom) waitsForRoom_ = false;
    if (newlyWaiting) hooks_.memoryGrew();
    if (waking == Waking::now) {
        // It may wake up on another processor.
        follower_.mayHaveMoved(true);
        if (follower_.lookIsDue() && pause_ > pauseWhereMoved) toFollow_ = thread;
    }
    return true;
}

/// For one fault alone, where another processor may be idle and faults come often enough; where reclaim is
/// at work, the guest and we had better run on two. A thread that is bound to its processor stays there
/// anyway.
bool FaultHandler::givesWay() {
    if (pending_.size() != 1 || pause_ >= longestPauseToGiveWay || !hooks_.quiet || !hooks_.quiet() ||
        !giveWay_->allowed(served_))
        return false;
    const auto thread = pending_.front().thread;
    if (thread == 0) return false;  // what was read from the file tier is served anew
    if (untilBoundLook_ == 0) guestIsBound_ = isBoundToOneCpu(thread);
    untilBoundLook_ = (untilBoundLook_ + 1) % givingsBetweenLooks;
    return !guestIsBound_;
}

/// The last thing that is done for a fault: the thread may go on on this processor before we do. Whatever
/// becomes of its page meanwhile, it looks itself, and faults again if need be.
void FaultHandler::wakeAsleep() {
    const auto asleep = std::exchange(asleep_, std::nullopt);
    if (!asleep) return;
    sequencePoint("page-there");
    giveWay_->during([&] { guest_.wake({{asleep->value / pageBytes * pageBytes}, pageBytes}); });
    gaveWay_ = std::chrono::steady_clock::now();
}

/// Before the fault is served, or its page's state would be lost.
void FaultHandler::tell(VmAddress address) const {
    if (const auto page = pager_.addresses().pageAt(address))
        hooks_.served(*page, pager_.pages().peek(*page).state());
}

bool FaultHandler::bringAlong(VmAddress address) {
    const auto page = static_cast<std::int64_t>(address.value / pageBytes);
    if (hooks_.restoring()) {
        // Everything is on its way back: what is wanted first goes first, and its neighbours with it.
        const VmAddress block{address.value / blockBytes * blockBytes};
        if (!pager_.prefetchBlock(address)) pager_.prefetch(block, pageBytes, pagesPerBlock);
        return true;
    }
    const auto awaited = std::exchange(awaited_, std::nullopt);
    const bool again = awaited && awaited->address == address;
    const auto ahead = again ? awaited->ahead : streams_.fault(page, neighbours_.pages());
    // A young stream is a guess; what neighbours have been good for is known.
    if (ahead.count <= StreamDetector::firstWindow) {
        const auto block = bringNeighbours(address);
        if (block.count > 1 && ahead.count > 0 && ahead.stride == 1)
            streams_.reached(block.first + block.count);
        if (block.count > 1 || ahead.count == 0) return true;
    }
    auto count = ahead.count;
    if (ahead.established) {
        // Guest RAM's blocks start at multiples of 2 MiB. A stream goes on by whole blocks where it can: as
        // one huge page a block comes back at a fraction of the cost, now and whenever it is moved again.
        const auto block = page / static_cast<std::int64_t>(pagesPerBlock);
        const auto end = (block + 1) * static_cast<std::int64_t>(pagesPerBlock);
        if (const auto number = pager_.blockAt(address)) {
            if (streamAt_ != number) hooks_.streamMoved(streamAt_, *number, ahead.stride == 1);
            streamAt_ = number;
        }
        if (ahead.stride == 1) {
            if (pager_.mayComeWhole(address)) {
                // Piece by piece the block would cost a multiple, and never be one huge page again: the
                // stream had better wait for a moment until reclaim, which runs, has made room.
                const auto now = std::chrono::steady_clock::now();
                const auto since = again ? awaited->since : now;
                if (!again) streams_.reached(end);
                const bool room = budget_.hasRoom(blockBytes - pager_.spareBytes());
                if (!room && now - since < patienceForBlock) {
                    awaited_ = Awaited{address, ahead, since};
                    sequencePoint("block-awaited");
                    return false;
                }
                if (room && pager_.prefetchBlock(address)) return true;
                count = static_cast<unsigned>(end - page - 1);
            } else if (page + count >= end) {
                count = static_cast<unsigned>(end - page - 1);
                streams_.reached(end);
            }
        }
    }
    while (count > 0 && !budget_.hasRoom((count + 1) * pageBytes))
        count /= 2;
    if (count == 0) return true;
    const auto strideBytes = ahead.stride * static_cast<std::int64_t>(pageBytes);
    pager_.prefetch({address.value / pageBytes * pageBytes + static_cast<std::uint64_t>(strideBytes)},
                    strideBytes, count);
    return true;
}

NeighbourBlocks::Block FaultHandler::bringNeighbours(VmAddress address) {
    const auto at = [](std::int64_t page) { return VmAddress{static_cast<std::uint64_t>(page) * pageBytes}; };
    const auto page = static_cast<std::int64_t>(address.value / pageBytes);
    const auto block = neighbours_.fault(page, [&](std::int64_t other) { return pager_.inStore(at(other)); });
    if (block.count == 1 || !budget_.hasRoom(block.count * pageBytes)) return block;
    // The runs between what is left out and the page itself, which is served like any other.
    for (auto from = block.first; from < block.first + block.count; ++from) {
        auto end = from;
        while (end < block.first + block.count && end != page && !neighbours_.leavesOut(end))
            ++end;
        if (end > from) pager_.prefetch(at(from), pageBytes, static_cast<std::uint64_t>(end - from));
        from = end;
    }
    return block;
}

}  // namespace thermocline::memory
