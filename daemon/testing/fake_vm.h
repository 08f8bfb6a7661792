// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <stdexcept>
#include <string>

#include "common/unique_fd.h"

namespace thermocline::testing {

/// A UUID that no other test program uses at the same time: all of /proc is searched for it.
inline std::string uniqueUuid() {
    std::string uuid;
    std::ifstream("/proc/sys/kernel/random/uuid") >> uuid;
    return uuid;
}

/// A process that looks like a domain's QEMU by its command line and does nothing. It ends with
/// the object, and also with the test program, whose end closes the pipe that it waits on.
class FakeVm {
  public:
    explicit FakeVm(const std::string& uuid) {
        std::array<int, 2> input{};
        std::array<int, 2> output{};
        if (::pipe2(input.data(), O_CLOEXEC) != 0 || ::pipe2(output.data(), O_CLOEXEC) != 0)
            throw std::runtime_error("pipe2");
        const UniqueFd childInput(input[0]);
        input_.reset(input[1]);
        const UniqueFd says(output[0]);
        UniqueFd childOutput(output[1]);
        posix_spawn_file_actions_t actions{};
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, childInput.get(), 0);
        posix_spawn_file_actions_adddup2(&actions, childOutput.get(), 1);
        std::array<std::string, 6> words{"/bin/sh", "-c", "echo; exec >&-; read x", "qemu", "-uuid", uuid};
        std::array<char*, 7> argv{};
        for (std::size_t i = 0; i < words.size(); ++i)
            argv[i] = words[i].data();
        const int status = ::posix_spawn(&pid_, "/bin/sh", &actions, nullptr, argv.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        childOutput.reset();
        // Its command line can be read only once the new program
        // runs, which is later than posix_spawn returns.
        char byte = 0;
        if (status != 0 || ::read(says.get(), &byte, 1) != 1) throw std::runtime_error("posix_spawn");
    }
    FakeVm(const FakeVm&) = delete;
    FakeVm& operator=(const FakeVm&) = delete;
    ~FakeVm() { end(); }

    [[nodiscard]] pid_t pid() const { return pid_; }
    void end() {
        if (pid_ == 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }

  private:
    pid_t pid_ = 0;
    UniqueFd input_;
};

}  // namespace thermocline::testing
