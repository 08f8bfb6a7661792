// SPDX-License-Identifier: Apache-2.0
#pragma once

// A stopped thread of another process, in which single system calls can be made on its behalf (ptrace). The
// other threads of the process run on. Life cycle, after criu's compel: stop -> prepare (save registers and
// signal mask, block every signal) -> calls -> cure (restore both) -> resume. Everything is restored when the
// object ends, and no signal is lost: what comes meanwhile is delivered before or after. Linux binds ptrace
// to the calling thread: make, use and destroy an object on one thread.
//
// Also when this process is killed, at whatever instruction: the thread then goes on by itself behind the
// system call that it makes, and a frame on its stack takes it back to where it was (memory/return_frame.h).
// So it never has registers or a mask of ours without that frame: both are set after it is written, and
// before it is given up. Nothing of the tracer's may outlive it, which single steps (the trap flag), hardware
// breakpoints and patched code would: the kernel forgets the stops at system calls with the tracer.

#include <sys/types.h>
#include <sys/user.h>

#include <array>
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

    /// clone() of a thread that starts at `entry` with `argument` in its first register, all signals blocked;
    /// it is never traced. `stackTop` is 16-byte aligned; `scratch` points to 128 zero bytes for the thread's
    /// TLS pointer and tids. Returns its tid.
    Result<pid_t> startThread(VmAddress entry, VmAddress argument, VmAddress stackTop, VmAddress scratch);

    Result<void> write(VmAddress to, std::span<const std::byte> bytes);
    Result<void> read(VmAddress from, std::span<std::byte> bytes);

    /// How long the thread has been stopped.
    [[nodiscard]] std::chrono::nanoseconds stoppedFor() const;

  private:
    explicit RemoteProcess(pid_t pid) : pid_(pid) {}
    /// Stops the thread. What signals come first are delivered.
    Result<void> interrupt();
    /// Out of the instructions that we borrow: where another tracer was killed, the thread may still be on
    /// its way through them, with what that one asked for.
    Result<void> letItLeave();
    Result<void> prepare();
    Result<void> findInstructions();
    Result<void> makeFrame();
    /// The next system call that the thread makes, on its way back.
    Result<void> arm(long number, const std::array<std::uint64_t, 6>& arguments);
    /// Lets it run up to its next entry to a system call, or return from one.
    Result<void> runToSystemCall();
    /// Waits for a stop; not `patient`: two seconds at most.
    Result<int> wait(bool patient);

    pid_t pid_;
    bool seized_ = false;
    bool saved_ = false;
    int undelivered_ = 0;           ///< signal that goes on with the thread
    VmAddress syscallInstruction_;  ///< with a `ret` behind it
    VmAddress restorer_;            ///< rt_sigreturn, of the C library
    VmAddress frame_;
    user_regs_struct registers_{};
    std::uint64_t signalMask_ = 0;
    std::chrono::steady_clock::time_point stoppedAt_;
};

}  // namespace thermocline::memory
