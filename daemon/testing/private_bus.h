// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "common/unique_fd.h"

namespace thermocline::testing {

/// A dbus-daemon of the test's own, on a socket in `directory`. It ends with the object.
class PrivateBus {
  public:
    /// Everyone may do everything, save what `policy` (elements of <policy>) says.
    explicit PrivateBus(const std::filesystem::path& directory, const std::string& policy = {})
        : PrivateBus(directory, Configuration{"<policy context='default'><allow send_destination='*'/>"
                                              "<allow receive_sender='*'/><allow own='*'/>" +
                                              policy + "</policy>"}) {}
    /// As closed as the system bus is by default, for every user, opened by the policy file of one service.
    static PrivateBus likeTheSystemBus(const std::filesystem::path& directory,
                                       const std::string& policyFile) {
        std::filesystem::permissions(directory, std::filesystem::perms::all);
        return PrivateBus(
            directory,
            Configuration{
                "<policy context='default'><allow user='*'/><deny own='*'/><deny send_type='method_call'/>"
                "<allow send_type='signal'/>"
                "<allow send_requested_reply='true' send_type='method_return'/>"
                "<allow send_requested_reply='true' send_type='error'/>"
                "<allow receive_type='method_call'/><allow receive_type='method_return'/>"
                "<allow receive_type='error'/><allow receive_type='signal'/>"
                "<allow send_destination='org.freedesktop.DBus'/></policy>"
                "<include>" +
                policyFile + "</include>"});
    }
    PrivateBus(const PrivateBus&) = delete;
    PrivateBus& operator=(const PrivateBus&) = delete;
    ~PrivateBus() { end(); }

    [[nodiscard]] const std::string& address() const { return address_; }
    void end() {
        if (pid_ == 0) return;
        ::kill(pid_, SIGTERM);
        ::waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }

  private:
    struct Configuration {
        std::string policies;
    };
    PrivateBus(const std::filesystem::path& directory, const Configuration& configuration) {
        const auto file = directory / "bus.conf";
        std::ofstream(file) << "<busconfig><listen>unix:path=" << (directory / "bus.sock").string()
                            << "</listen><auth>EXTERNAL</auth>" << configuration.policies << "</busconfig>";
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
        const UniqueFd readEnd(ends[0]);
        UniqueFd writeEnd(ends[1]);
        posix_spawn_file_actions_t actions{};
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, writeEnd.get(), 1);
        // setpriv: a test program that crashes takes its bus with it.
        std::array<std::string, 8> words{"setpriv",
                                         "--pdeathsig",
                                         "TERM",
                                         "dbus-daemon",
                                         "--nofork",
                                         "--nopidfile",
                                         "--print-address=1",
                                         "--config-file=" + file.string()};
        std::array<char*, 9> argv{};
        for (std::size_t i = 0; i < words.size(); ++i)
            argv[i] = words[i].data();
        const int status = ::posix_spawnp(&pid_, "setpriv", &actions, nullptr, argv.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        writeEnd.reset();
        // It prints its address once it listens.
        std::array<char, 256> address{};
        const ssize_t size = status == 0 ? ::read(readEnd.get(), address.data(), address.size()) : 0;
        if (size <= 1) throw std::runtime_error("dbus-daemon does not start");
        address_.assign(address.data(), static_cast<std::size_t>(size) - 1);
    }

    pid_t pid_ = 0;
    std::string address_;
};

}  // namespace thermocline::testing
