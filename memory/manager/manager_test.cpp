// SPDX-License-Identifier: Apache-2.0

// The manager executable as the daemon uses it, on a process that looks like QEMU.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "memory/manager/protocol.h"
#include "memory/testing/anatomy.h"
#include "memory/testing/subject_process.h"

extern char** environ;

namespace thermocline::manager {
namespace {

using memory::testing::Anatomy;
using memory::testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;

pid_t spawn(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), THERMOCLINE_MANAGER);
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_t pid = -1;
    EXPECT_EQ(::posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ), 0);
    return pid;
}

int exitCode(pid_t pid) {
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

class Manager : public ::testing::Test {
  protected:
    void SetUp() override {
        char path[] = "/dev/shm/thermocline-test-XXXXXX";
        directory_ = ::mkdtemp(path);
    }
    void TearDown() override {
        if (manager_ > 0) {
            ::kill(manager_, SIGKILL);
            exitCode(manager_);
        }
        std::filesystem::remove_all(directory_);
    }

    /// Starts the manager and returns its ready line.
    nlohmann::json start(pid_t subject, const std::vector<std::string>& more = {}) {
        std::array<int, 2> ready{};
        EXPECT_EQ(::pipe(ready.data()), 0);
        ::fcntl(ready[0], F_SETFD, FD_CLOEXEC);
        std::vector<std::string> arguments{"run",    "--pid",      std::to_string(subject), "--state-dir", directory_,
                                           "--name", "test", "--ready-fd",            std::to_string(ready[1])};
        arguments.insert(arguments.end(), more.begin(), more.end());
        manager_ = spawn(arguments);
        ::close(ready[1]);
        std::string text;
        std::array<char, 4096> part;
        for (ssize_t n = 0; (n = ::read(ready[0], part.data(), part.size())) > 0;)
            text.append(part.data(), static_cast<std::size_t>(n));
        ::close(ready[0]);
        return nlohmann::json::parse(text);
    }
    void connect() {
        socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strcpy(address.sun_path, (directory_ + "/" + socketFileName).c_str());
        ASSERT_EQ(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    }
    nlohmann::json receive() {
        std::vector<char> packet(maxPacketBytes);
        const auto n = ::recv(socket_.get(), packet.data(), packet.size(), 0);
        return n <= 0 ? nlohmann::json() : nlohmann::json::parse(packet.data(), packet.data() + n);
    }
    nlohmann::json call(const nlohmann::json& request) {
        const auto text = request.dump();
        EXPECT_EQ(::send(socket_.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
        return receive();
    }

    std::string directory_;
    pid_t manager_ = -1;
    UniqueFd socket_;
};

TEST_F(Manager, attachesLimitsAndLeavesWithoutPrivilegesOrTraces) {
    SubjectProcess subject(64 * mib, true, {"-m", "64"});
    ASSERT_EQ(subject.command("fill 1 plain"), "ok");
    const Anatomy before(subject.pid());
    const auto ready = start(subject.pid());
    ASSERT_TRUE(ready.at("ok").get<bool>()) << ready;
    EXPECT_EQ(ready.at("status").get<Status>().memoryBytes, 64 * mib);

    const auto own = memory::readProcFile("/proc/" + std::to_string(manager_) + "/status").value();
    for (const char* line : {"Uid:\t65534\t65534\t65534\t65534", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
                             "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"})
        EXPECT_NE(own.find(line), std::string::npos) << line << " not in\n" << own;
    struct stat info{};
    ASSERT_EQ(::stat((directory_ + "/arena").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U);

    connect();
    auto answer = call({{"id", 1}, {"method", "set-limit"}, {"params", {{"limit_bytes", 40 * mib}}}});
    EXPECT_EQ(answer.at("id"), 1);
    EXPECT_EQ(answer.at("result").get<Status>().limitBytes, 40 * mib);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    EXPECT_EQ(subject.command("write 0 16384"), "ok");
    answer = call({{"id", "two"}, {"method", "status"}});
    EXPECT_EQ(answer.at("id"), "two");
    EXPECT_GT(answer.at("result").get<Status>().coldFaults, 0U);
    EXPECT_GT(answer.at("result").get<Status>().coldBytes, 0U);

    answer = call({{"id", 3}, {"method", "set-limit"}, {"params", {{"limit_bytes", 1}}}});
    EXPECT_EQ(answer.at("error").at("name"), "InvalidLimit");
    answer = call({{"id", 4}, {"method", "set-limit"}, {"params", {{"limit_bytes", "lots"}}}});
    EXPECT_EQ(answer.at("error").at("name"), "InvalidLimit");
    answer = call({{"id", 5}, {"method", "dance"}});
    EXPECT_EQ(answer.at("error").at("name"), "InvalidArgument");
    answer = call("no object");
    EXPECT_EQ(answer.at("error").at("name"), "InvalidArgument");
    answer = call({{"id", 6}, {"method", "subscribe"}});
    EXPECT_EQ(answer.at("result"), nlohmann::json::object());
    EXPECT_EQ(receive().at("event"), "status");

    // Refused, and nothing is half done: a second manager, and a cure while pages are elsewhere.
    EXPECT_EQ(exitCode(spawn({"run", "--pid", std::to_string(subject.pid()), "--state-dir", "/dev/shm", "--name", "second"})), 1);

    const auto text = nlohmann::json{{"id", 7}, {"method", "detach"}}.dump();
    ASSERT_EQ(::send(socket_.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    do answer = receive();
    while (!answer.contains("id"));
    EXPECT_EQ(answer.at("id"), 7);
    EXPECT_EQ(answer.at("result").get<Status>().state, "detached");
    EXPECT_EQ(exitCode(manager_), 0);
    manager_ = -1;
    EXPECT_EQ(exitCode(spawn({"cure", "--pid", std::to_string(subject.pid()), "--state-dir", directory_})), 0);
    EXPECT_TRUE(std::filesystem::is_empty(directory_));
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    const Anatomy after(subject.pid());
    EXPECT_EQ(before.threads, after.threads);
    EXPECT_EQ(before.descriptors, after.descriptors);
    EXPECT_EQ(before.mappings, after.mappings);
}

TEST_F(Manager, tellsThatTheVmIsGone) {
    SubjectProcess subject(32 * mib, false, {"-m", "32"});
    ASSERT_TRUE(start(subject.pid()).at("ok").get<bool>());
    connect();
    call({{"id", 1}, {"method", "subscribe"}});
    subject.kill();
    nlohmann::json packet;
    do packet = receive();
    while (!packet.is_null() && packet.at("event") != "gone");
    EXPECT_FALSE(packet.is_null());
    EXPECT_EQ(exitCode(manager_), 0);
    manager_ = -1;
}

TEST_F(Manager, terminationSignalDetaches) {
    SubjectProcess subject(32 * mib, false, {"-m", "32"});
    ASSERT_EQ(subject.command("fill 1 plain"), "ok");
    ASSERT_TRUE(start(subject.pid()).at("ok").get<bool>());
    connect();
    call({{"id", 1}, {"method", "set-limit"}, {"params", {{"limit_bytes", 20 * mib}}}});
    ASSERT_EQ(::kill(manager_, SIGTERM), 0);
    EXPECT_EQ(exitCode(manager_), 0);
    manager_ = -1;
    EXPECT_EQ(subject.command("verify"), "ok 8192");
}

TEST_F(Manager, saysWhyItCannotAttach) {
    const auto expectError = [&](const nlohmann::json& ready, const char* name, const char* words) {
        EXPECT_FALSE(ready.at("ok").get<bool>());
        EXPECT_EQ(ready.at("error").at("name"), name) << ready;
        EXPECT_NE(ready.at("error").at("message").get<std::string>().find(words), std::string::npos) << ready;
        EXPECT_EQ(exitCode(manager_), 1);
        manager_ = -1;
        EXPECT_TRUE(std::filesystem::is_empty(directory_));
    };
    SubjectProcess plain(32 * mib, false, {"-m", "32"});
    expectError(start(plain.pid(), {"--userfaultfd-device", "/nonexistent"}), "NotSupported", "/nonexistent");
    SubjectProcess otherSize(32 * mib, false, {"-m", "33"});
    expectError(start(otherSize.pid()), "NotSupported", "found 0");
    SubjectProcess locked(32 * mib, false, {"-m", "32", "-overcommit", "mem-lock=on"});
    expectError(start(locked.pid()), "NotSupported", "locked");
    SubjectProcess vfio(32 * mib, false, {"-m", "32", "-device", "vfio-pci,host=0000:01:00.0"});
    expectError(start(vfio.pid()), "NotSupported", "vfio-pci");
    SubjectProcess sev(32 * mib, false, {"-m", "32", "-object", R"({"qom-type":"sev-guest","id":"s"})"});
    expectError(start(sev.pid()), "NotSupported", "sev-guest");
    SubjectProcess shared(32 * mib, false,
                          {"-object", R"({"qom-type":"memory-backend-memfd","id":"r","size":33554432,"share":true})"});
    expectError(start(shared.pid()), "NotSupported", "memory-backend-memfd");
    SubjectProcess noQemu(32 * mib, false);
    expectError(start(noQemu.pid()), "NotSupported", "QEMU");
    const auto pid = plain.pid();
    plain.kill();
    expectError(start(pid), "ProcessGone", std::to_string(pid).c_str());
}

TEST(Probe, answersForTheHost) {
    EXPECT_EQ(exitCode(spawn({"probe"})), 0);
    EXPECT_EQ(exitCode(spawn({"probe", "--userfaultfd-device", "/nonexistent"})), 1);
}

}  // namespace
}  // namespace thermocline::manager
