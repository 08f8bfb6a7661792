// SPDX-License-Identifier: Apache-2.0
#include "memory/testing/manager_child.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "memory/manager/protocol.h"

extern char** environ;

namespace thermocline::memory::testing {
namespace {

pid_t spawn(const std::string& executable, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), executable);
    std::vector<char*> argv;
    for (auto& argument : arguments)
        argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_t pid = -1;
    if (::posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0)
        throw std::runtime_error("cannot start " + arguments[0]);
    return pid;
}

const char* executable(bool toKill) {
    return toKill ? THERMOCLINE_MANAGER_TO_KILL : THERMOCLINE_MANAGER;
}

int await(pid_t pid) {
    int status = 0;
    if (::waitpid(pid, &status, 0) != pid) throw std::runtime_error("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

ManagerChild::ManagerChild(bool toKill) : executable_(executable(toKill)) {
    char path[] = "/dev/shm/thermocline-test-XXXXXX";
    directory_ = ::mkdtemp(path);
}

ManagerChild::~ManagerChild() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        await(pid_);
    }
    std::filesystem::remove_all(directory_);
}

int ManagerChild::run(const std::vector<std::string>& arguments, bool toKill) {
    return await(spawn(executable(toKill), arguments));
}

nlohmann::json ManagerChild::start(pid_t vm, const std::vector<std::string>& more) {
    std::array<int, 2> ready{};
    if (::pipe(ready.data()) != 0) throw std::runtime_error("pipe");
    const UniqueFd ours(ready[0]);
    ::fcntl(ours.get(), F_SETFD, FD_CLOEXEC);
    std::vector<std::string> arguments{"run",         "--pid",      std::to_string(vm),
                                       "--state-dir", directory_,   "--name",
                                       "test",        "--ready-fd", std::to_string(ready[1])};
    arguments.insert(arguments.end(), more.begin(), more.end());
    pid_ = spawn(executable_, arguments);
    ::close(ready[1]);
    std::string text;
    std::array<char, 4096> part;
    for (ssize_t n = 0; (n = ::read(ours.get(), part.data(), part.size())) > 0;)
        text.append(part.data(), static_cast<std::size_t>(n));
    return text.empty() ? nlohmann::json() : nlohmann::json::parse(text);
}

void ManagerChild::connect() {
    socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const auto path = directory_ + "/" + manager::socketFileName;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        throw std::runtime_error("cannot connect to " + path);
}

void ManagerChild::send(const nlohmann::json& packet) {
    const auto text = packet.dump();
    if (::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size()))
        throw std::runtime_error("the manager does not listen");
}

nlohmann::json ManagerChild::receive() {
    std::vector<char> packet(manager::maxPacketBytes);
    const auto n = ::recv(socket_.get(), packet.data(), packet.size(), 0);
    return n <= 0 ? nlohmann::json() : nlohmann::json::parse(packet.data(), packet.data() + n);
}

nlohmann::json ManagerChild::call(const nlohmann::json& packet) {
    send(packet);
    return receive();
}

nlohmann::json ManagerChild::tryCall(const nlohmann::json& packet) {
    try {
        return call(packet);
    } catch (const std::runtime_error&) {
        return {};
    }
}

int ManagerChild::exitCode() {
    const auto code = await(pid_);
    pid_ = -1;
    return code;
}

void ManagerChild::signal(int number) const {
    ::kill(pid_, number);
}

}  // namespace thermocline::memory::testing
