// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/unique_fd.h"
#include "daemon/event_loop.h"

namespace thermocline {

/// A process that was started by us: in a session of its own (a signal to the daemon's group is not meant
/// for it), with no descriptors but 0 (/dev/null), 1, 2 and one pipe that is read here, and with default
/// signal handling. Destroying the object neither ends nor reaps the process. Belongs to the loop's thread.
class ChildProcess {
  public:
    struct Handlers {
        /// The child closed its end of the pipe; all that it wrote (at most maxOutputBytes).
        std::function<void(std::string output)> onOutput;
        /// The child ended and was reaped; what waitpid says. Not before onOutput.
        std::function<void(int waitStatus)> onExit;
    };
    static constexpr std::size_t maxOutputBytes = 64 * 1024;

    /// `argv[0]` is the path. `outputFd`: the descriptor that the
    /// pipe has in the child. A handler may destroy the object.
    static Result<std::unique_ptr<ChildProcess>> spawn(EventLoop& loop, const std::vector<std::string>& argv,
                                                       int outputFd, Handlers handlers);

    [[nodiscard]] pid_t pid() const { return pid_; }
    void sendSignal(int signal) const;

  private:
    ChildProcess(EventLoop& loop, pid_t pid, UniqueFd pidfd, UniqueFd output, Handlers handlers);
    void readOutput();
    void reap();

    pid_t pid_;
    UniqueFd pidfd_;
    UniqueFd output_;
    std::string text_;
    Handlers handlers_;
    EventLoop::Source outputSource_;
    EventLoop::Source exitSource_;
};

/// pidfd_open: a descriptor that becomes readable when the process ends. processGone where there is none.
Result<UniqueFd> openPidfd(pid_t pid);
/// True where the process of `pidfd` has ended (also while it is a zombie).
bool hasEnded(const UniqueFd& pidfd);
/// For people: "exited with status 3", "was killed by signal 9 (Killed)".
std::string describeWaitStatus(int waitStatus);

}  // namespace thermocline
