// SPDX-License-Identifier: Apache-2.0
#pragma once

// The thread that answers the guest's page faults and reads the events of its address space. It never waits
// for another thread: a fault that has no room yet is put aside, and events are read on, since others may
// need them read before they can make room.

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "common/unique_fd.h"
#include "memory/budget.h"
#include "memory/cpu_follower.h"
#include "memory/give_way.h"
#include "memory/neighbour_blocks.h"
#include "memory/pager.h"
#include "memory/stream_detector.h"
#include "memory/userfault.h"

namespace thermocline::memory {

class FaultHandler {
  public:
    struct Hooks {
        std::function<void()> memoryGrew;  ///< after faults were served: reclaim may be due
        std::function<bool()> restoring;   ///< everything is being brought back
        /// Nothing is done in the background, so that a processor may be idle; none: never.
        std::function<bool()> quiet;
        std::function<void()> processEnded;  ///< the VM's process is gone; the last call
        /// A stream has left a block behind, if it is known which, and goes on in the next; `whole`: page by
        /// page.
        std::function<void(std::optional<BlockNumber> from, BlockNumber to, bool whole)> streamMoved;
        std::function<void(PageNumber, PageState before)>
            served;  ///< a fault on this page is about to be; none: nobody wants to know
        std::function<void()>
            messagesRead;  ///< sequence point for tests: between reading messages and serving faults
    };

    /// Starts the thread. `process` is a pidfd; all references outlive the handler.
    FaultHandler(Pager& pager, Userfault& guest, const Budget& budget, int process, Hooks hooks);
    ~FaultHandler();
    FaultHandler(const FaultHandler&) = delete;
    FaultHandler& operator=(const FaultHandler&) = delete;

    /// Stops and joins the thread. Faults that come later wait in the kernel.
    void stop();
    /// Any thread: there is room again, or something is to be read from the file tier.
    void wake();
    /// Any thread: does a fault wait for room?
    [[nodiscard]] bool waitsForRoom() const { return waitsForRoom_.load(std::memory_order_relaxed); }

    /// The processor that faults are served on now; -1 where it is not known.
    [[nodiscard]] int cpu() const { return follower_.cpu(); }
    [[nodiscard]] std::uint64_t faults() const { return faults_.load(std::memory_order_relaxed); }
    /// Of stall(), time in which a fault waited for room.
    [[nodiscard]] std::chrono::nanoseconds waited() const {
        return std::chrono::nanoseconds(waitedNanoseconds_.load(std::memory_order_relaxed));
    }
    /// Time in which at least one fault was known and not served yet; from the handler's waking up on.
    [[nodiscard]] std::chrono::nanoseconds stall() const {
        return std::chrono::nanoseconds(stallNanoseconds_.load(std::memory_order_relaxed));
    }

  private:
    struct Fault {
        VmAddress address;
        bool write;
        pid_t thread;
    };
    void run(int process);
    /// Reads all pending messages; events are applied, faults appended to pending_.
    void readMessages();
    /// Serves what it can of pending_; false when the process is ending.
    bool servePending();
    [[nodiscard]] bool givesWay();
    void wakeAsleep();
    void tell(VmAddress address) const;
    /// Continues the stream that a fault belongs to, or brings its neighbours. False: the fault is to be
    /// served once there is room for a whole block.
    bool bringAlong(VmAddress address);
    NeighbourBlocks::Block bringNeighbours(VmAddress address);

    Pager& pager_;
    Userfault& guest_;
    const Budget& budget_;
    Hooks hooks_;
    UniqueFd wake_;
    std::vector<Fault> pending_;
    StreamDetector streams_;
    NeighbourBlocks neighbours_;
    std::optional<BlockNumber> streamAt_;
    // Nothing of it is under way, and it stays among the pending faults: a REMOVE is applied before it is
    // looked at again, and the process' end or a kill finds it as one that waits for room.
    struct Awaited {
        VmAddress address;
        Prefetch ahead;
        std::chrono::steady_clock::time_point since;
    };
    std::optional<Awaited> awaited_;  // the fault of a stream that goes on when there is room for a block
    std::optional<GiveWay> giveWay_;
    bool guestIsBound_ = false;  // to one processor, as of its last look
    unsigned untilBoundLook_ = 0;
    std::optional<VmAddress> asleep_;  // whose page is there
    CpuFollower follower_;
    std::optional<pid_t> toFollow_;                                 // once all is served
    std::optional<std::chrono::steady_clock::time_point> gaveWay_;  // and went on then
    std::chrono::steady_clock::time_point served_{};                // when there was nothing more to serve
    std::chrono::nanoseconds pause_{0};                             // between that and the next message
    std::atomic<bool> stop_{false};
    std::atomic<bool> waitsForRoom_{false};
    std::atomic<std::uint64_t> faults_{0};
    std::atomic<std::uint64_t> stallNanoseconds_{0};
    std::atomic<std::uint64_t> waitedNanoseconds_{0};
    std::thread thread_;  // last: it uses all of the above
};

}  // namespace thermocline::memory
