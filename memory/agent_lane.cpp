// SPDX-License-Identifier: Apache-2.0
#include "memory/agent_lane.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <ctime>
#include <utility>

#include "memory/sequence_point.h"

namespace thermocline::memory {
namespace {

// The lane lives in memory that two processes share, so these futexes are not "private" ones.
void futexWake(std::uint32_t* word) {
    syscall(SYS_futex, word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}
void futexWait(std::uint32_t* word, std::uint32_t value, const timespec& timeout) {
    syscall(SYS_futex, word, FUTEX_WAIT, value, &timeout, nullptr, 0);
}

}  // namespace

AgentLane::AgentLane(thermocline_lane* shared, pid_t thread, std::function<bool()> processEnded)
    : shared_(shared),
      thread_(thread),
      processEnded_(std::move(processEnded)),
      sequence_(std::atomic_ref(shared->request).load()) {}

thermocline_operation& AgentLane::next(std::uint32_t kind) {
    assert(queued_ < THERMOCLINE_MAX_OPERATIONS);
    auto& operation = shared_->operations[queued_++];
    operation = {};
    operation.kind = kind;
    return operation;
}

void AgentLane::movePages(int descriptor, VmAddress to, VmAddress from, const BlockMask& want) {
    auto& operation = next(THERMOCLINE_MOVE_PAGES);
    operation.descriptor = descriptor;
    operation.destination = to.value;
    operation.source = from.value;
    std::copy(want.words().begin(), want.words().end(), operation.want);
}

void AgentLane::moveHuge(int descriptor, VmAddress to, VmAddress from) {
    auto& operation = next(THERMOCLINE_MOVE_HUGE);
    operation.descriptor = descriptor;
    operation.destination = to.value;
    operation.source = from.value;
    operation.length = blockBytes;
}

void AgentLane::advise(VmRange range, int advice) {
    auto& operation = next(THERMOCLINE_ADVISE);
    operation.destination = range.start.value;
    operation.length = range.bytes;
    operation.source = static_cast<std::uint64_t>(advice);
}

void AgentLane::advisePages(VmAddress first, int advice, const BlockMask& want) {
    auto& operation = next(THERMOCLINE_ADVISE_PAGES);
    operation.destination = first.value;
    operation.source = static_cast<std::uint64_t>(advice);
    std::copy(want.words().begin(), want.words().end(), operation.want);
}

void AgentLane::findDirect(std::uint32_t descriptors) {
    next(THERMOCLINE_FIND_DIRECT).length = descriptors;
}

void AgentLane::populate(VmAddress page) {
    next(THERMOCLINE_POPULATE).destination = page.value;
}

void AgentLane::exit() {
    next(THERMOCLINE_EXIT);
}

/// Waking a thread on another, idle CPU takes ten to fifty times as long as on one's own, and while the agent
/// works its caller sleeps. A failure (no CAP_SYS_NICE) costs that time only.
void AgentLane::bringHere() {
    const int cpu = ::sched_getcpu();
    if (cpu < 0 || cpu == cpu_ || processEnded_()) return;  // ended: the thread's number may be another's
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)::sched_setaffinity(thread_, sizeof set, &set);
    cpu_ = cpu;
}

bool AgentLane::awaitIdle() {
    // Whoever asked may have died before it woke the agent.
    futexWake(&shared_->request);
    return awaitReply();
}

bool AgentLane::leaving() const {
    return shared_->operations[0].kind == THERMOCLINE_EXIT;
}

void AgentLane::dismiss() {
    // Told already, and not known to have answered: it is about to leave, or has left and will never answer.
    if (leaving() && std::atomic_ref(shared_->reply).load() != sequence_) return futexWake(&shared_->request);
    exit();
    submit(std::exchange(queued_, 0));
}

void AgentLane::submit(std::uint32_t count) {
    shared_->operation_count = count;
    std::atomic_ref(shared_->request).store(++sequence_, std::memory_order_release);
    futexWake(&shared_->request);
}

/// Until all that was asked for is answered; false where the process has ended.
bool AgentLane::awaitReply() {
    std::atomic_ref reply(shared_->reply);
    constexpr timespec patience{0, 50'000'000};
    for (;;) {
        const auto answered = reply.load(std::memory_order_acquire);
        if (answered == sequence_) return true;
        futexWait(&shared_->reply, answered, patience);
        if (reply.load(std::memory_order_acquire) != sequence_ && processEnded_()) return false;
    }
}

const std::vector<AgentLane::Outcome>& AgentLane::run() {
    outcomes_.clear();
    const auto count = std::exchange(queued_, 0);
    if (count == 0) return outcomes_;
    bringHere();
    submit(count);
    sequencePoint("agent-asked");
    if (!awaitReply()) return outcomes_;
    // The control page can be written by the VM's process: take what it says with care (never more than was
    // asked).
    const auto completed = std::min(shared_->completed, count);
    for (std::uint32_t i = 0; i < count; ++i) {
        const auto& operation = shared_->operations[i];
        Outcome outcome;
        // The operation that ended the batch has its own error; those behind it were not run.
        outcome.error = i <= completed ? static_cast<int>(-operation.error) : ECANCELED;
        const bool ofPages =
            operation.kind == THERMOCLINE_MOVE_PAGES || operation.kind == THERMOCLINE_ADVISE_PAGES;
        if (i < completed && ofPages)
            for (std::size_t w = 0; w < outcome.pages.words().size(); ++w)
                outcome.pages.words()[w] = operation.done[w] & operation.want[w];
        outcomes_.push_back(outcome);
    }
    return outcomes_;
}

}  // namespace thermocline::memory
