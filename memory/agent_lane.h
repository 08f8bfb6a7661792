// SPDX-License-Identifier: Apache-2.0
#pragma once

// The manager's side of one agent thread (agent/agent_protocol.h): submits a batch of operations and waits
// until they are done. One thread at a time per lane; each engine thread has its own.

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include "memory/agent/agent_protocol.h"
#include "memory/page.h"

namespace thermocline::memory {

class AgentLane {
  public:
    /// `shared` is our mapping of the lane's control page, `thread` the agent; `processEnded` is asked now
    /// and then while waiting.
    AgentLane(thermocline_lane* shared, pid_t thread, std::function<bool()> processEnded);

    /// Queues operations for the next run(). REQUIRES: at most THERMOCLINE_MAX_OPERATIONS of them.
    void movePages(int descriptor, VmAddress to, VmAddress from, const BlockMask& want);
    void moveHuge(int descriptor, VmAddress to, VmAddress from);
    void advise(VmRange range, int advice);
    void advisePages(VmAddress first, int advice, const BlockMask& want);
    /// EBUSY where a file is open with O_DIRECT under a number below `descriptors`.
    void findDirect(std::uint32_t descriptors);
    void populate(VmAddress page);
    void exit();

    /// Waits until the agent has done what another manager asked of it. False where the process has ended.
    bool awaitIdle();
    /// Was the agent about to be told to leave, or told? REQUIRES: no run() since.
    [[nodiscard]] bool leaving() const;
    /// Tells it to leave, without waiting for an answer: it may have left. May be called again and again.
    void dismiss();

    /// One queued operation's outcome.
    struct Outcome {
        int error =
            0;  ///< 0 or an errno value; ECANCELED where an earlier operation's failure ended the batch
        BlockMask pages;  ///< movePages and advisePages only: for which it worked
    };
    /// Runs what is queued; outcomes in the order of queueing. Returns an empty vector when the process has
    /// ended.
    const std::vector<Outcome>& run();

  private:
    thermocline_operation& next(std::uint32_t kind);
    void bringHere();
    void submit(std::uint32_t count);
    bool awaitReply();

    thermocline_lane* shared_;
    pid_t thread_;
    int cpu_ = -1;  // where the agent was last told to run
    std::function<bool()> processEnded_;
    std::uint32_t queued_ = 0;
    std::uint32_t sequence_ = 0;
    std::vector<Outcome> outcomes_;
};

}  // namespace thermocline::memory
