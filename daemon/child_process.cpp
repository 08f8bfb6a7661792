// SPDX-License-Identifier: Apache-2.0
#include "daemon/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <utility>

namespace thermocline {
namespace {

/// posix_spawn's two parameter blocks, freed together.
class SpawnSetup {
  public:
    SpawnSetup() {
        posix_spawnattr_init(&attributes);
        posix_spawn_file_actions_init(&actions);
    }
    SpawnSetup(const SpawnSetup&) = delete;
    SpawnSetup& operator=(const SpawnSetup&) = delete;
    ~SpawnSetup() {
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
    }

    posix_spawnattr_t attributes{};
    posix_spawn_file_actions_t actions{};
};

void configure(SpawnSetup& setup, int pipeEnd, int outputFd) {
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    // The daemon blocks signals and ignores SIGPIPE; a child must not inherit that.
    posix_spawnattr_setsigmask(&setup.attributes, &none);
    posix_spawnattr_setsigdefault(&setup.attributes, &all);
    posix_spawnattr_setflags(&setup.attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_addopen(&setup.actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&setup.actions, pipeEnd, outputFd);
    posix_spawn_file_actions_addclosefrom_np(&setup.actions, std::max(outputFd, 2) + 1);
}

}  // namespace

Result<UniqueFd> openPidfd(pid_t pid) {
    UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!fd.valid())
        return failErrno(fmt::format("pidfd_open of process {}", pid), errno,
                         errno == ESRCH ? ErrorCode::processGone : ErrorCode::systemError);
    return fd;
}

bool hasEnded(const UniqueFd& pidfd) {
    pollfd poll{pidfd.get(), POLLIN, 0};
    return ::poll(&poll, 1, 0) == 1;
}

std::string describeWaitStatus(int waitStatus) {
    if (WIFSIGNALED(waitStatus))
        return fmt::format("was killed by signal {} ({})", WTERMSIG(waitStatus),
                           sigdescr_np(WTERMSIG(waitStatus)));
    return fmt::format("exited with status {}", WEXITSTATUS(waitStatus));
}

Result<std::unique_ptr<ChildProcess>> ChildProcess::spawn(EventLoop& loop,
                                                          const std::vector<std::string>& argv, int outputFd,
                                                          Handlers handlers) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return failErrno("pipe2");
    UniqueFd readEnd(ends[0]);
    UniqueFd writeEnd(ends[1]);
    ::fcntl(readEnd.get(), F_SETFL, O_NONBLOCK);

    SpawnSetup setup;
    configure(setup, writeEnd.get(), outputFd);
    std::vector<char*> arguments;
    for (const auto& argument : argv)
        arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    pid_t pid = 0;
    if (const int status = ::posix_spawn(&pid, argv.front().c_str(), &setup.actions, &setup.attributes,
                                         arguments.data(), environ);
        status != 0)
        return failErrno(fmt::format("start {}", argv.front()), status);

    auto pidfd = openPidfd(pid);  // cannot miss it: an unreaped child keeps its id
    if (!pidfd) return tl::unexpected<Error>(pidfd.error());
    return std::unique_ptr<ChildProcess>(
        new ChildProcess(loop, pid, std::move(*pidfd), std::move(readEnd), std::move(handlers)));
}

ChildProcess::ChildProcess(EventLoop& loop, pid_t pid, UniqueFd pidfd, UniqueFd output, Handlers handlers)
    : pid_(pid), pidfd_(std::move(pidfd)), output_(std::move(output)), handlers_(std::move(handlers)) {
    outputSource_ = loop.watch(output_.get(), EPOLLIN, [this](std::uint32_t) { readOutput(); });
    exitSource_ = loop.watch(pidfd_.get(), EPOLLIN, [this](std::uint32_t) { reap(); });
}

void ChildProcess::sendSignal(int signal) const {
    // By descriptor: the number may already be somebody else's.
    ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0);
}

void ChildProcess::readOutput() {
    std::array<char, 4096> buffer{};
    while (true) {
        const ssize_t got = ::read(output_.get(), buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) break;
        const auto room = maxOutputBytes - text_.size();
        text_.append(buffer.data(), std::min(static_cast<std::size_t>(got), room));
    }
    outputSource_.reset();
    output_.reset();
    const auto handler = std::exchange(handlers_.onOutput, nullptr);
    handler(std::move(text_));
}

void ChildProcess::reap() {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == 0) return;
    // What the child wrote before it ended is in the pipe; a
    // grandchild that holds the pipe open does not delay the end.
    if (handlers_.onOutput) {
        readOutput();
        if (handlers_.onOutput) std::exchange(handlers_.onOutput, nullptr)(std::move(text_));
    }
    outputSource_.reset();
    exitSource_.reset();
    const auto handler = std::exchange(handlers_.onExit, nullptr);
    handler(status);
}

}  // namespace thermocline
