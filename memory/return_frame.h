// SPDX-License-Identifier: Apache-2.0
#pragma once

// The signal frame (x86-64, arch/x86/kernel/signal_64.c) that takes a thread back to where it was, by itself:
// it lies on the thread's stack while system calls are made on the thread's behalf (memory/remote_process.h).
// Should the tracer die meanwhile, the thread goes on behind the borrowed `syscall`: its `ret` pops the first
// word of the frame, which is the C library's restorer, rt_sigreturn; and that restores registers, floating
// point state and signal mask at once.
//
// Pure functions.

#include <sys/user.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "memory/page.h"

namespace thermocline::memory {

struct ReturnFrame {
    VmAddress start;  ///< what the stack pointer has to be at the borrowed instruction
    std::vector<std::byte> bytes;
};

/// Below `below`, which is what the thread keeps of its stack: to `registers`, as they are in a stop, with a
/// system call that was interrupted begun again; to the signal mask `mask`; to the floating point state
/// `state` (NT_X86_XSTATE, or NT_PRFPREG; empty: that of a new thread). `restorer`: address of rt_sigreturn's
/// caller.
ReturnFrame makeReturnFrame(VmAddress below, const user_regs_struct& registers, std::uint64_t mask,
                            std::span<const std::byte> state, VmAddress restorer);

}  // namespace thermocline::memory
