// SPDX-License-Identifier: Apache-2.0
#include "memory/remote_process.h"

#include <fmt/format.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <thread>
#include <vector>

#include "memory/process_map.h"

namespace thermocline::memory {
namespace {

constexpr auto stopTimeout = std::chrono::seconds(2);
constexpr std::uint64_t allSignals = ~std::uint64_t{0};

tl::unexpected<Error> ptraceError(const char* what, pid_t pid) {
    const int errnum = errno;
    if (errnum == ESRCH) return fail(ErrorCode::processGone, fmt::format("process {} has ended", pid));
    if (errnum == EPERM) {
        const auto status = readProcFile(fmt::format("/proc/{}/status", pid));
        const auto at = status ? status->find("\nTracerPid:\t") : std::string::npos;
        const auto tracer = at == std::string::npos
                                ? std::string("0")
                                : status->substr(at + 12, status->find('\n', at + 12) - at - 12);
        if (tracer != "0")
            return fail(
                ErrorCode::permissionDenied,
                fmt::format("process {} is traced by process {} (a debugger?); end that first", pid, tracer));
        return fail(ErrorCode::permissionDenied,
                    fmt::format("{} of process {} was refused; CAP_SYS_PTRACE is needed", what, pid));
    }
    return failErrno(fmt::format("{} of process {}", what, pid), errnum);
}

}  // namespace

Result<std::unique_ptr<RemoteProcess>> RemoteProcess::stop(pid_t pid) {
    std::unique_ptr<RemoteProcess> process(new RemoteProcess(pid));
    // Before the stop, since reading the mappings of a large process takes longer than all the rest; code
    // stays where it is.
    THERMOCLINE_TRY(process->findSyscallInstruction());
    if (ptrace(PTRACE_SEIZE, pid, nullptr, PTRACE_O_TRACECLONE) != 0) return ptraceError("PTRACE_SEIZE", pid);
    process->seized_ = true;
    process->stoppedAt_ = std::chrono::steady_clock::now();
    if (ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0) return ptraceError("PTRACE_INTERRUPT", pid);
    THERMOCLINE_TRY(process->wait(pid, false));
    THERMOCLINE_TRY(process->prepare());
    return process;
}

Result<void> RemoteProcess::prepare() {
    if (ptrace(PTRACE_GETREGS, pid_, nullptr, &registers_) != 0) return ptraceError("PTRACE_GETREGS", pid_);
    // With every signal blocked no handler can run between our steps, and the agent's threads inherit the
    // mask.
    if (ptrace(PTRACE_GETSIGMASK, pid_, sizeof signalMask_, &signalMask_) != 0 ||
        ptrace(PTRACE_SETSIGMASK, pid_, sizeof allSignals, &allSignals) != 0)
        return ptraceError("PTRACE_SETSIGMASK", pid_);
    saved_ = true;
    return {};
}

RemoteProcess::~RemoteProcess() {
    if (!seized_) return;
    if (saved_) {
        ptrace(PTRACE_SETREGS, pid_, nullptr, &registers_);
        ptrace(PTRACE_SETSIGMASK, pid_, sizeof signalMask_, &signalMask_);
    }
    // Where the thread never stopped (uninterruptible), detaching fails and the kernel does it when our
    // thread ends.
    ptrace(PTRACE_DETACH, pid_, nullptr, nullptr);
}

Result<void> RemoteProcess::findSyscallInstruction() {
    const auto text = readProcFile(fmt::format("/proc/{}/maps", pid_));
    if (!text) return tl::unexpected(text.error());
    const auto mappings = parseMappings(*text);
    if (!mappings) return tl::unexpected(mappings.error());
    // The vDSO is in every process and never patched; other code serves where a kernel's vDSO makes no calls.
    std::vector<const Mapping*> candidates;
    for (const auto& mapping : *mappings) {
        if (mapping.permissions[2] != 'x' || mapping.permissions[0] != 'r') continue;
        candidates.insert(mapping.path == "[vdso]" ? candidates.begin() : candidates.end(), &mapping);
    }
    for (const auto* mapping : candidates) {
        std::vector<std::byte> code(std::min<std::uint64_t>(mapping->range.bytes, 4U << 20));
        if (!read(mapping->range.start, code)) continue;
        for (std::size_t i = 0; i + 1 < code.size(); ++i) {
            if (code[i] != std::byte{0x0f} || code[i + 1] != std::byte{0x05}) continue;
            syscallInstruction_ = mapping->range.start + i;
            return {};
        }
    }
    return fail(ErrorCode::notSupported,
                fmt::format("process {} has no syscall instruction to borrow", pid_));
}

Result<int> RemoteProcess::wait(pid_t tid, bool patient) {
    // No timed waitpid exists. Only the first stop needs one: a thread in uninterruptible I/O may not stop
    // for long. A step ends by itself, so that may block, and should: a tracer that spins keeps the CPU that
    // the traced thread is to run on.
    const auto deadline = std::chrono::steady_clock::now() + stopTimeout;
    for (;;) {
        int status = 0;
        const pid_t got = waitpid(tid, &status, __WALL | (patient ? 0 : WNOHANG));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return ptraceError("waitpid", tid);
        if (got == tid) {
            if (WIFEXITED(status) || WIFSIGNALED(status)) {
                seized_ = seized_ && tid != pid_;
                return fail(ErrorCode::processGone,
                            WIFSIGNALED(status)
                                ? fmt::format("process {} was ended by signal {}", tid, WTERMSIG(status))
                                : fmt::format("process {} has ended", tid));
            }
            return status;
        }
        if (std::chrono::steady_clock::now() > deadline)
            return fail(ErrorCode::busy,
                        fmt::format("thread {} did not stop within {} s (uninterruptible I/O?); try again",
                                    tid, stopTimeout.count()));
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
}

Result<void> RemoteProcess::step(int& event) {
    if (ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) != 0) return ptraceError("PTRACE_SINGLESTEP", pid_);
    const auto status = wait(pid_, true);
    if (!status) return tl::unexpected(status.error());
    event = *status >> 16;
    if (WSTOPSIG(*status) != SIGTRAP && event == 0)
        return fail(ErrorCode::systemError, fmt::format("process {} stopped with signal {} instead of a step",
                                                        pid_, WSTOPSIG(*status)));
    return {};
}

Result<std::uint64_t> RemoteProcess::call(const char* what, long number,
                                          std::initializer_list<std::uint64_t> arguments) {
    std::array<std::uint64_t, 6> a{};
    std::copy_n(arguments.begin(), std::min<std::size_t>(arguments.size(), a.size()), a.begin());
    auto registers = registers_;
    registers.rax = static_cast<unsigned long>(number);
    registers.orig_rax = ~0UL;  // not in a system call: nothing to restart
    registers.rdi = a[0];
    registers.rsi = a[1];
    registers.rdx = a[2];
    registers.r10 = a[3];
    registers.r8 = a[4];
    registers.r9 = a[5];
    registers.rip = syscallInstruction_.value;
    if (ptrace(PTRACE_SETREGS, pid_, nullptr, &registers) != 0) return ptraceError("PTRACE_SETREGS", pid_);
    // A stop of another kind (group stop, a new tracee's event) may come first; the call is done once rip has
    // moved on.
    for (int tries = 0; tries < 8; ++tries) {
        int event = 0;
        THERMOCLINE_TRY(step(event));
        if (ptrace(PTRACE_GETREGS, pid_, nullptr, &registers) != 0)
            return ptraceError("PTRACE_GETREGS", pid_);
        if (event == 0 && registers.rip != syscallInstruction_.value) {
            const auto result = static_cast<std::int64_t>(registers.rax);
            if (result < 0 && result >= -4095)
                return failErrno(fmt::format("{} in process {}", what, pid_), static_cast<int>(-result));
            return static_cast<std::uint64_t>(result);
        }
    }
    return fail(ErrorCode::systemError, fmt::format("{} in process {} did not finish", what, pid_));
}

Result<pid_t> RemoteProcess::startThread(VmAddress entry, VmAddress argument, VmAddress stackTop,
                                         VmAddress scratch) {
    // Exactly the flags of glibc's pthread_create: QEMU's sandbox kills the VM for any others.
    constexpr std::uint64_t threadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                          CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                          CLONE_CHILD_CLEARTID;
    const auto tid =
        call("clone", SYS_clone,
             {threadFlags, stackTop.value, scratch.value, (scratch + 8).value, (scratch + 64).value});
    if (!tid) return tl::unexpected(tid.error());
    const auto thread = static_cast<pid_t>(*tid);
    // The new thread is traced from birth (PTRACE_O_TRACECLONE) and stops before its first instruction.
    THERMOCLINE_TRY(wait(thread, true));
    user_regs_struct registers{};
    if (ptrace(PTRACE_GETREGS, thread, nullptr, &registers) != 0)
        return ptraceError("PTRACE_GETREGS", thread);
    registers.rip = entry.value;
    registers.rdi = argument.value;
    registers.rsp =
        stackTop.value - 8;  // as if called: the ABI's alignment at a function's first instruction
    registers.orig_rax = ~0UL;
    if (ptrace(PTRACE_SETREGS, thread, nullptr, &registers) != 0 ||
        ptrace(PTRACE_DETACH, thread, nullptr, nullptr) != 0)
        return ptraceError("starting the agent thread", thread);
    return thread;
}

Result<void> RemoteProcess::write(VmAddress to, std::span<const std::byte> bytes) {
    iovec local{const_cast<std::byte*>(bytes.data()), bytes.size()};
    iovec remote{reinterpret_cast<void*>(to.value), bytes.size()};
    if (process_vm_writev(pid_, &local, 1, &remote, 1, 0) != static_cast<ssize_t>(bytes.size()))
        return ptraceError("process_vm_writev", pid_);
    return {};
}

Result<void> RemoteProcess::read(VmAddress from, std::span<std::byte> bytes) {
    iovec local{bytes.data(), bytes.size()};
    iovec remote{reinterpret_cast<void*>(from.value), bytes.size()};
    if (process_vm_readv(pid_, &local, 1, &remote, 1, 0) != static_cast<ssize_t>(bytes.size()))
        return ptraceError("process_vm_readv", pid_);
    return {};
}

std::chrono::nanoseconds RemoteProcess::stoppedFor() const {
    return std::chrono::steady_clock::now() - stoppedAt_;
}

}  // namespace thermocline::memory
