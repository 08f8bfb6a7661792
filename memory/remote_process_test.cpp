// SPDX-License-Identifier: Apache-2.0
// System calls in another process; and that it goes on as if nothing had been when who makes them is killed.
#include "memory/remote_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <thread>

#include "memory/sequence_point.h"

namespace thermocline::memory {
namespace {

/// What the processes of a test share.
struct Board {
    std::atomic<std::uint64_t> rounds{0};
    std::atomic<std::uint64_t> signals{0};
    std::atomic<bool> wrong{false};
};
Board* board = nullptr;

const char* deadlyPoint = nullptr;

#ifdef __SANITIZE_THREAD__
constexpr bool signalsKeptBack = true;
#else
constexpr bool signalsKeptBack = false;
#endif

/// All registers that a compiler uses have their values after a while in which nothing touches them.
void keepRegisters() {
    alignas(32) static std::array<std::uint64_t, 4> pattern{0x1111111111111111, 0x2222222222222222,
                                                            0x3333333333333333, 0x4444444444444444};
    // Objects of their own: there are hardly any registers left to address parts of one with.
    alignas(32) static std::array<std::uint64_t, 4> first;
    alignas(32) static std::array<std::uint64_t, 4> last;
    static std::uint64_t sum;  // nothing lies in the red zone but what is put there
    asm volatile(
        "vmovdqa %[pattern], %%ymm3\n vmovdqa %[pattern], %%ymm15\n"
        "mov $3, %%rbx\n mov $5, %%rcx\n mov $7, %%rdx\n mov $11, %%rsi\n mov $13, %%rdi\n mov $17, %%r8\n"
        "mov $19, %%r9\n mov $23, %%r10\n mov $29, %%r11\n mov $31, %%r12\n mov $37, %%r13\n mov $41, %%r14\n"
        "movq $0x55aa, -8(%%rsp)\n movq $0x33cc, -128(%%rsp)\n"  // the red zone
        "mov $2000, %%rax\n 1: pause\n dec %%rax\n jnz 1b\n"
        "add %%rcx, %%rbx\n add %%rdx, %%rbx\n add %%rsi, %%rbx\n add %%rdi, %%rbx\n add %%r8, %%rbx\n"
        "add %%r9, %%rbx\n add %%r10, %%rbx\n add %%r11, %%rbx\n add %%r12, %%rbx\n add %%r13, %%rbx\n"
        "add %%r14, %%rbx\n add -8(%%rsp), %%rbx\n add -128(%%rsp), %%rbx\n mov %%rbx, %[sum]\n"
        "vmovdqa %%ymm3, %[first]\n vmovdqa %%ymm15, %[last]\n"
        : [sum] "=m"(sum), [first] "=m"(first), [last] "=m"(last)
        : [pattern] "m"(pattern)
        : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "ymm3",
          "ymm15", "memory", "cc");
    constexpr std::uint64_t expected =
        3 + 5 + 7 + 11 + 13 + 17 + 19 + 23 + 29 + 31 + 37 + 41 + 0x55aa + 0x33cc;
    if (sum != expected || first != pattern || last != pattern) board->wrong = true;
    ++board->rounds;
}

std::array<int, 2> question{-1, -1};

/// Waits in a system call, which is to be begun again where it was interrupted by us.
void readOnce() {
    char byte = 0;
    if (::read(question[0], &byte, 1) != 1 || byte != 'q') board->wrong = true;
    ++board->rounds;
}

/// One that is begun again by other means (ERESTART_RESTARTBLOCK): it may say EINTR, as after a handler.
void pollOnce() {
    pollfd wanted{question[0], POLLIN, 0};
    const int ready = ::poll(&wanted, 1, 3'600'000);
    if (ready < 0 && errno == EINTR) return;
    if (ready != 1) board->wrong = true;
    readOnce();
}

class RemoteProcessTest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (signalsKeptBack)
            GTEST_SKIP() << "ThreadSanitizer gives the traced process its signals late, or not";
        board =
            new (::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
                Board;
        ASSERT_EQ(::pipe2(question.data(), O_CLOEXEC), 0);
    }
    void TearDown() override {
        if (traced_ > 0) {
            ::kill(traced_, SIGKILL);
            ::waitpid(traced_, nullptr, 0);
        }
        if (signalsKeptBack) return;
        for (const int end : question)
            ::close(end);
        ::munmap(board, sizeof(Board));
    }
    void trace(void (*work)()) {
        traced_ = ::fork();
        if (traced_ != 0) return;
        for (const int signal : {SIGUSR1, SIGRTMIN})
            ::signal(signal, [](int) { ++board->signals; });
        for (;;)
            work();
    }
    /// As another process, which dies where it is told to; its exit status.
    static int inAProcess(const std::function<bool()>& work, const char* deadly = nullptr) {
        const pid_t child = ::fork();
        if (child == 0) {
            deadlyPoint = deadly;
            sequenceListener = [](const char* point) {
                if (deadlyPoint != nullptr && std::string_view(point) == deadlyPoint) ::raise(SIGKILL);
            };
            ::_exit(work() ? 0 : 1);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        return status;
    }
    bool lives() const { return ::waitpid(traced_, nullptr, WNOHANG) == 0; }
    /// As soon as it is so; false where the traced process has ended, or it never is.
    bool await(const std::function<bool()>& condition) const {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (!condition()) {
            if (!lives() || std::chrono::steady_clock::now() > deadline) return false;
            ::sched_yield();
        }
        return true;
    }
    bool inASystemCall(long number) const {
        std::array<char, 32> text{};
        const int file = ::open(fmt::format("/proc/{}/syscall", traced_).c_str(), O_RDONLY | O_CLOEXEC);
        const auto got = ::read(file, text.data(), text.size() - 1);
        ::close(file);
        return got > 0 && std::string_view(text.data()).starts_with(fmt::format("{} ", number));
    }
    pid_t traced_ = -1;
};

TEST_F(RemoteProcessTest, makesSystemCallsAndLeavesNoTrace) {
    trace(keepRegisters);
    ASSERT_TRUE(await([] { return board->rounds > 0; }));
    const int status = inAProcess([&] {
        auto remote = RemoteProcess::stop(traced_);
        if (!remote) return false;
        for (int i = 0; i < 20; ++i)
            if ((*remote)->call("getpid", SYS_getpid, {}).value_or(0) != static_cast<std::uint64_t>(traced_))
                return false;
        const auto refused = (*remote)->call("close", SYS_close, {99999});
        return !refused && refused.error().message.find("close") != std::string::npos;
    });
    EXPECT_EQ(status, 0);
    const auto before = board->rounds.load();
    ASSERT_TRUE(await([&] { return board->rounds > before + 100; }));
    EXPECT_FALSE(board->wrong);
}

TEST_F(RemoteProcessTest, losesNoSignalThatArrivesWhileItStops) {
    trace(keepRegisters);
    ASSERT_TRUE(await([] { return board->rounds > 0; }));
    std::atomic<bool> enough{false};
    std::uint64_t sent = 0;
    std::thread sender([&] {
        while (!enough) {
            if (::sigqueue(traced_, SIGRTMIN, {}) == 0)  // counts each, unlike those below SIGRTMIN
                ++sent;
            else
                ::sched_yield();
        }
    });
    const int status = inAProcess([&] {
        for (int i = 0; i < 300; ++i) {
            auto remote = RemoteProcess::stop(traced_);
            if (!remote || !(*remote)->call("getpid", SYS_getpid, {})) return false;
        }
        return true;
    });
    enough = true;
    sender.join();
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(await([&] { return board->signals >= sent; })) << board->signals << " of " << sent;
    EXPECT_EQ(board->signals, sent);
    EXPECT_FALSE(board->wrong);
}

TEST_F(RemoteProcessTest, standsStillAfterwardsWhereSomebodyStoppedItMeanwhile) {
    trace(keepRegisters);
    ASSERT_TRUE(await([] { return board->rounds > 0; }));
    const int status = inAProcess([&] {
        auto remote = RemoteProcess::stop(traced_);
        if (!remote || ::kill(traced_, SIGSTOP) != 0) return false;
        for (int i = 0; i < 3; ++i)
            if (!(*remote)->call("getpid", SYS_getpid, {})) return false;
        return true;
    });
    EXPECT_EQ(status, 0);
    int state = 0;
    ASSERT_EQ(::waitpid(traced_, &state, WUNTRACED), traced_);
    EXPECT_TRUE(WIFSTOPPED(state)) << state;
    ASSERT_EQ(::kill(traced_, SIGCONT), 0);
    const auto before = board->rounds.load();
    ASSERT_TRUE(await([&] { return board->rounds > before + 2; }));
    EXPECT_FALSE(board->wrong);
}

class RemoteProcessKilledAt : public RemoteProcessTest, public ::testing::WithParamInterface<const char*> {
  protected:
    void killTheTracer() {
        const int status = inAProcess(
            [&] {
                auto remote = RemoteProcess::stop(traced_);
                return remote && (*remote)->call("getpid", SYS_getpid, {});
            },
            GetParam());
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    }
    /// Its signals are as they were.
    void mustHearSignals() {
        ::kill(traced_, SIGUSR1);
        EXPECT_TRUE(await([] { return board->signals == 1; }));
    }
};

TEST_P(RemoteProcessKilledAt, theProcessComputesOn) {
    trace(keepRegisters);
    ASSERT_TRUE(await([] { return board->rounds > 0; }));
    for (int i = 0; i < 20; ++i) {
        ASSERT_NO_FATAL_FAILURE(killTheTracer());
        const auto before = board->rounds.load();
        ASSERT_TRUE(await([&] { return board->rounds > before + 2; }));
        ASSERT_FALSE(board->wrong);
    }
    mustHearSignals();
}

TEST_P(RemoteProcessKilledAt, aSystemCallThatItWaitsInIsBegunAgain) {
    trace(readOnce);
    ASSERT_TRUE(await([&] { return inASystemCall(SYS_read); }));
    ASSERT_NO_FATAL_FAILURE(killTheTracer());
    ASSERT_EQ(::write(question[1], "q", 1), 1);
    ASSERT_TRUE(await([] { return board->rounds == 1; }));
    mustHearSignals();
    EXPECT_FALSE(board->wrong);
}

TEST_P(RemoteProcessKilledAt, aWaitWithATimeoutEndsAsAfterASignal) {
    trace(pollOnce);
    ASSERT_TRUE(await([&] { return inASystemCall(SYS_poll); }));
    ASSERT_NO_FATAL_FAILURE(killTheTracer());
    ASSERT_EQ(::write(question[1], "q", 1), 1);
    ASSERT_TRUE(await([] { return board->rounds == 1; }));
    mustHearSignals();
    EXPECT_FALSE(board->wrong);
}

INSTANTIATE_TEST_SUITE_P(Points, RemoteProcessKilledAt,
                         ::testing::Values("remote-stopped", "remote-armed", "remote-masked",
                                           "remote-entered", "remote-returned", "remote-unmasked",
                                           "remote-restored"),
                         [](const auto& instance) {
                             std::string name = instance.param;
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

}  // namespace
}  // namespace thermocline::memory
