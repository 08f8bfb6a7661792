// SPDX-License-Identifier: Apache-2.0
#include "memory/remote_process.h"

#include <elf.h>
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
#include "memory/return_frame.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {
namespace {

constexpr auto stopTimeout = std::chrono::seconds(2);
constexpr std::uint64_t allSignals = ~std::uint64_t{0};
constexpr std::uint64_t redZoneBytes = 128;
constexpr std::size_t mostStateBytes = 16384;  // 11 KiB with every feature that there is

constexpr std::array<unsigned char, 3> syscallAndReturn{0x0f, 0x05, 0xc3};
// mov $SYS_rt_sigreturn, %rax; syscall (glibc), mov $SYS_rt_sigreturn, %eax; syscall (musl)
constexpr std::array<unsigned char, 9> glibcRestorer{0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
constexpr std::array<unsigned char, 7> muslRestorer{0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05};

/// Where these instructions first are; 0: nowhere.
template <std::size_t bytes>
std::uint64_t find(const std::vector<unsigned char>& code, const std::array<unsigned char, bytes>& wanted,
                   std::uint64_t start) {
    const auto at = std::search(code.begin(), code.end(), wanted.begin(), wanted.end());
    return at == code.end() ? 0 : start + static_cast<std::uint64_t>(at - code.begin());
}

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
    THERMOCLINE_TRY(process->findInstructions());
    if (ptrace(PTRACE_SEIZE, pid, nullptr, PTRACE_O_TRACESYSGOOD) != 0)
        return ptraceError("PTRACE_SEIZE", pid);
    process->seized_ = true;
    process->stoppedAt_ = std::chrono::steady_clock::now();
    THERMOCLINE_TRY(process->interrupt());
    THERMOCLINE_TRY(process->letItLeave());
    THERMOCLINE_TRY(process->prepare());
    return process;
}

Result<void> RemoteProcess::interrupt() {
    const auto deadline = std::chrono::steady_clock::now() + stopTimeout;
    for (;;) {
        if (ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr) != 0)
            return ptraceError("PTRACE_INTERRUPT", pid_);
        const auto status = wait(false);
        if (!status) return tl::unexpected(status.error());
        if (*status >> 16 != 0) return {};
        // On its way to a signal instead, which takes the place of our stop, and would be lost with it.
        const int signal = WSTOPSIG(*status);
        if (std::chrono::steady_clock::now() > deadline) {
            undelivered_ = signal;
            return fail(ErrorCode::busy,
                        fmt::format("process {} gets signals without an end; try again", pid_));
        }
        if (ptrace(PTRACE_CONT, pid_, nullptr, signal) != 0) return ptraceError("PTRACE_CONT", pid_);
    }
}

Result<void> RemoteProcess::letItLeave() {
    const auto deadline = std::chrono::steady_clock::now() + stopTimeout;
    for (;;) {
        if (ptrace(PTRACE_GETREGS, pid_, nullptr, &registers_) != 0)
            return ptraceError("PTRACE_GETREGS", pid_);
        const auto within = [this](VmAddress start, std::size_t bytes) {
            return registers_.rip >= start.value && registers_.rip <= start.value + bytes;
        };
        // Not behind the `ret`: what follows there is another function.
        if (!within(syscallInstruction_, syscallAndReturn.size() - 1) &&
            !within(restorer_, glibcRestorer.size()))
            return {};
        if (std::chrono::steady_clock::now() > deadline)
            return fail(ErrorCode::busy,
                        fmt::format("process {} does not come out of a system call; try again", pid_));
        if (ptrace(PTRACE_CONT, pid_, nullptr, nullptr) != 0) return ptraceError("PTRACE_CONT", pid_);
        // clone() begins again for each interruption: it is to get the time for it.
        std::this_thread::sleep_for(std::chrono::microseconds(200));
        THERMOCLINE_TRY(interrupt());
    }
}

Result<void> RemoteProcess::prepare() {
    if (ptrace(PTRACE_GETSIGMASK, pid_, sizeof signalMask_, &signalMask_) != 0)
        return ptraceError("PTRACE_GETSIGMASK", pid_);
    THERMOCLINE_TRY(makeFrame());
    sequencePoint("remote-stopped");
    THERMOCLINE_TRY(arm(SYS_getpid, {}));
    saved_ = true;
    sequencePoint("remote-armed");
    // With every signal blocked no handler can run between our calls.
    if (ptrace(PTRACE_SETSIGMASK, pid_, sizeof allSignals, &allSignals) != 0)
        return ptraceError("PTRACE_SETSIGMASK", pid_);
    sequencePoint("remote-masked");
    return {};
}

Result<void> RemoteProcess::makeFrame() {
    std::vector<std::byte> state(mostStateBytes);
    iovec buffer{state.data(), state.size()};
    // A processor without XSAVE has only what FXSAVE knows.
    if (ptrace(PTRACE_GETREGSET, pid_, NT_X86_XSTATE, &buffer) != 0 &&
        ptrace(PTRACE_GETREGSET, pid_, NT_PRFPREG, &buffer) != 0)
        return ptraceError("PTRACE_GETREGSET", pid_);
    state.resize(buffer.iov_len);
    const auto frame =
        makeReturnFrame({registers_.rsp - redZoneBytes}, registers_, signalMask_, state, restorer_);
    if (auto written = write(frame.start, frame.bytes); !written)
        return fail(ErrorCode::busy,
                    fmt::format("process {} has no room on its stack just now ({}); try again", pid_,
                                written.error().message));
    frame_ = frame.start;
    return {};
}

RemoteProcess::~RemoteProcess() {
    if (!seized_) return;
    if (saved_) {
        ptrace(PTRACE_SETSIGMASK, pid_, sizeof signalMask_, &signalMask_);
        sequencePoint("remote-unmasked");
        ptrace(PTRACE_SETREGS, pid_, nullptr, &registers_);
        sequencePoint("remote-restored");
    }
    // Where the thread never stopped (uninterruptible), detaching fails and the kernel does it when our
    // thread ends.
    ptrace(PTRACE_DETACH, pid_, nullptr, undelivered_);
}

Result<void> RemoteProcess::findInstructions() {
    // A thread with one may only return where it was called from.
    const auto status = readProcFile(fmt::format("/proc/{}/status", pid_));
    if (!status) return tl::unexpected(status.error());
    const auto features = status->find("\nx86_Thread_features:");
    if (features != std::string::npos &&
        status->substr(features + 1, status->find('\n', features + 1) - features - 1).find("shstk") !=
            std::string::npos)
        return fail(ErrorCode::notSupported,
                    fmt::format("process {} has a shadow stack (x86 CET); start it without one "
                                "(GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)",
                                pid_));
    const auto text = readProcFile(fmt::format("/proc/{}/maps", pid_));
    if (!text) return tl::unexpected(text.error());
    const auto mappings = parseMappings(*text);
    if (!mappings) return tl::unexpected(mappings.error());
    // The C library has both; its code lies behind the program's, which is searched for what is linked
    // statically.
    for (auto mapping = mappings->rbegin(); mapping != mappings->rend(); ++mapping) {
        if (mapping->permissions[2] != 'x' || mapping->permissions[0] != 'r') continue;
        std::vector<unsigned char> code(std::min<std::uint64_t>(mapping->range.bytes, 4U << 20));
        if (!read(mapping->range.start, std::as_writable_bytes(std::span(code)))) continue;
        const auto start = mapping->range.start.value;
        if (syscallInstruction_.value == 0) syscallInstruction_ = {find(code, syscallAndReturn, start)};
        if (restorer_.value == 0) restorer_ = {find(code, glibcRestorer, start)};
        if (restorer_.value == 0) restorer_ = {find(code, muslRestorer, start)};
        if (syscallInstruction_.value != 0 && restorer_.value != 0) return {};
    }
    return fail(ErrorCode::notSupported,
                fmt::format("process {} has no C library whose instructions can be borrowed", pid_));
}

Result<int> RemoteProcess::wait(bool patient) {
    // No timed waitpid exists. Only the first stop needs one: a thread in uninterruptible I/O may not stop
    // for long. A call of ours ends by itself, so that may block, and should: a tracer that spins keeps the
    // CPU that the traced thread is to run on.
    const auto deadline = std::chrono::steady_clock::now() + stopTimeout;
    for (;;) {
        int status = 0;
        const pid_t got = waitpid(pid_, &status, __WALL | (patient ? 0 : WNOHANG));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return ptraceError("waitpid", pid_);
        if (got == pid_) {
            if (WIFEXITED(status) || WIFSIGNALED(status)) {
                seized_ = false;
                return fail(ErrorCode::processGone,
                            WIFSIGNALED(status)
                                ? fmt::format("process {} was ended by signal {}", pid_, WTERMSIG(status))
                                : fmt::format("process {} has ended", pid_));
            }
            return status;
        }
        if (std::chrono::steady_clock::now() > deadline)
            return fail(ErrorCode::busy,
                        fmt::format("thread {} did not stop within {} s (uninterruptible I/O?); try again",
                                    pid_, stopTimeout.count()));
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
}

Result<void> RemoteProcess::runToSystemCall() {
    // Others may come first: SIGSTOP, which no mask holds back and which is passed on, and its group stop.
    int signal = 0;
    for (int tries = 0; tries < 8; ++tries) {
        if (ptrace(PTRACE_SYSCALL, pid_, nullptr, signal) != 0) return ptraceError("PTRACE_SYSCALL", pid_);
        const auto status = wait(true);
        if (!status) return tl::unexpected(status.error());
        if (WSTOPSIG(*status) == (SIGTRAP | 0x80)) return {};
        signal = *status >> 16 == 0 ? WSTOPSIG(*status) : 0;
        if (signal != 0 && signal != SIGSTOP)
            return fail(
                ErrorCode::systemError,
                fmt::format("process {} stopped with signal {} instead of at a system call", pid_, signal));
    }
    return fail(ErrorCode::systemError, fmt::format("process {} did not get to a system call", pid_));
}

Result<void> RemoteProcess::arm(long number, const std::array<std::uint64_t, 6>& arguments) {
    auto registers = registers_;
    registers.rax = static_cast<unsigned long>(number);
    registers.orig_rax = ~0UL;  // not in a system call: nothing to restart
    registers.rdi = arguments[0];
    registers.rsi = arguments[1];
    registers.rdx = arguments[2];
    registers.r10 = arguments[3];
    registers.r8 = arguments[4];
    registers.r9 = arguments[5];
    registers.rip = syscallInstruction_.value;
    registers.rsp = frame_.value;
    if (ptrace(PTRACE_SETREGS, pid_, nullptr, &registers) != 0) return ptraceError("PTRACE_SETREGS", pid_);
    return {};
}

Result<std::uint64_t> RemoteProcess::call(const char* what, long number,
                                          std::initializer_list<std::uint64_t> arguments) {
    std::array<std::uint64_t, 6> a{};
    std::copy_n(arguments.begin(), std::min<std::size_t>(arguments.size(), a.size()), a.begin());
    THERMOCLINE_TRY(arm(number, a));
    THERMOCLINE_TRY(runToSystemCall());
    sequencePoint("remote-entered");
    THERMOCLINE_TRY(runToSystemCall());
    sequencePoint("remote-returned");
    user_regs_struct registers{};
    if (ptrace(PTRACE_GETREGS, pid_, nullptr, &registers) != 0) return ptraceError("PTRACE_GETREGS", pid_);
    const auto result = static_cast<std::int64_t>(registers.rax);
    if (result < 0 && result >= -4095)
        return failErrno(fmt::format("{} in process {}", what, pid_), static_cast<int>(-result));
    return static_cast<std::uint64_t>(result);
}

Result<pid_t> RemoteProcess::startThread(VmAddress entry, VmAddress argument, VmAddress stackTop,
                                         VmAddress scratch) {
    // Exactly the flags of glibc's pthread_create: QEMU's sandbox kills the VM for any others.
    constexpr std::uint64_t threadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                          CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                          CLONE_CHILD_CLEARTID;
    // It comes out of clone() where its parent does, and goes to its first instruction by a frame of its own.
    auto registers = registers_;
    registers.rip = entry.value;
    registers.rdi = argument.value;
    registers.rsp =
        stackTop.value - 8;  // as if called: the ABI's alignment at a function's first instruction
    registers.rax = 0;
    registers.eflags = 0x202;  // interrupts, and nothing else
    const auto frame = makeReturnFrame(stackTop, registers, allSignals, {}, restorer_);
    THERMOCLINE_TRY(write(frame.start, frame.bytes));
    const auto tid =
        call("clone", SYS_clone,
             {threadFlags, frame.start.value, scratch.value, (scratch + 8).value, (scratch + 64).value});
    if (!tid) return tl::unexpected(tid.error());
    return static_cast<pid_t>(*tid);
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
