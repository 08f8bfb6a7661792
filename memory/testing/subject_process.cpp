// SPDX-License-Identifier: Apache-2.0
#include "memory/testing/subject_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <stdexcept>

extern char** environ;

namespace thermocline::memory::testing {

SubjectProcess::SubjectProcess(std::uint64_t bytes, SubjectMemory memory,
                               std::vector<std::string> arguments) {
    std::array<int, 2> in{};
    std::array<int, 2> out{};
    if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0)
        throw std::runtime_error("pipe2");
    const UniqueFd childInput(in[0]);
    const UniqueFd childOutput(out[1]);
    input_.reset(in[1]);
    output_.reset(out[0]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, childInput.get(), 0);
    posix_spawn_file_actions_adddup2(&actions, childOutput.get(), 1);
    std::string path = THERMOCLINE_SUBJECT;
    std::vector<char*> argv{path.data()};
    for (auto& argument : arguments)
        argv.push_back(argument.data());
    argv.push_back(nullptr);
    const int error = ::posix_spawn(&pid_, path.c_str(), &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw std::runtime_error("cannot start " + path);
    constexpr std::array names{" small", " huge", " shared"};
    const auto mapped = command("map " + std::to_string(bytes) + names[static_cast<std::size_t>(memory)]);
    range_ = {{std::stoull(mapped.substr(3))}, bytes};
}

SubjectProcess::~SubjectProcess() {
    kill();
}

void SubjectProcess::kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

std::string SubjectProcess::command(const std::string& text) {
    send(text);
    return answer();
}

void SubjectProcess::send(const std::string& text) {
    const auto line = text + "\n";
    if (::write(input_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
        throw std::runtime_error("the subject does not listen");
}

std::string SubjectProcess::answer() {
    for (;;) {
        const auto end = buffered_.find('\n');
        if (end != std::string::npos) {
            auto line = buffered_.substr(0, end);
            buffered_.erase(0, end + 1);
            return line;
        }
        std::array<char, 4096> part;
        const auto n = ::read(output_.get(), part.data(), part.size());
        if (n <= 0) throw std::runtime_error("the subject ended");
        buffered_.append(part.data(), static_cast<std::size_t>(n));
    }
}

}  // namespace thermocline::memory::testing
