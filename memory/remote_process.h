// SPDX-License-Identifier: Apache-2.0
#pragma once

// A stopped thread of another process, in which single system calls can be made on its behalf (ptrace). The
// other threads of the process run on. Life cycle, after criu's compel: stop -> prepare (find a `syscall`
// instruction, save registers and signal mask, block every signal) -> calls -> cure (restore both) -> resume.
// Everything is restored when the object ends. Linux binds ptrace to the calling thread: make, use and
// destroy an object on one thread.

#include <sys/types.h>
#include <sys/user.h>

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>

#include "common/error.h"
#include "memory/page.h"

namespace thermocline::memory {

class RemoteProcess {
  public:
    /// Stops the main thread of `pid`. Errors: processGone; permissionDenied (no CAP_SYS_PTRACE, or another
    /// tracer, which the message names); busy when the thread cannot be stopped within two seconds
    /// (uninterruptible I/O).
    static Result<std::unique_ptr<RemoteProcess>> stop(pid_t pid);

    RemoteProcess(const RemoteProcess&) = delete;
    RemoteProcess& operator=(const RemoteProcess&) = delete;
    /// Restores the thread and lets it run.
    ~RemoteProcess();

    /// Makes one system call in the process; returns its result, with -errno turned into a systemError that
    /// names `what`.
    Result<std::uint64_t> call(const char* what, long number, std::initializer_list<std::uint64_t> arguments);

    /// clone() of a thread that starts at `entry` with `argument` in its first register, all signals blocked.
    /// `stackTop` is 16-byte aligned; `scratch` points to 128 zero bytes for the thread's TLS pointer and
    /// tids. Returns its tid.
    Result<pid_t> startThread(VmAddress entry, VmAddress argument, VmAddress stackTop, VmAddress scratch);

    Result<void> write(VmAddress to, std::span<const std::byte> bytes);
    Result<void> read(VmAddress from, std::span<std::byte> bytes);

    /// How long the thread has been stopped.
    [[nodiscard]] std::chrono::nanoseconds stoppedFor() const;

  private:
    explicit RemoteProcess(pid_t pid) : pid_(pid) {}
    Result<void> prepare();
    Result<void> findSyscallInstruction();
    /// Runs one instruction; `event` receives the ptrace event that stopped it, 0 for a plain step.
    Result<void> step(int& event);
    /// Waits for a stop; not `patient`: two seconds at most.
    Result<int> wait(pid_t tid, bool patient);

    pid_t pid_;
    bool seized_ = false;
    bool saved_ = false;
    VmAddress syscallInstruction_;
    user_regs_struct registers_{};
    std::uint64_t signalMask_ = 0;
    std::chrono::steady_clock::time_point stoppedAt_;
};

}  // namespace thermocline::memory
