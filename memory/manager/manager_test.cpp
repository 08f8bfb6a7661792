// SPDX-License-Identifier: Apache-2.0

// The manager executable as the daemon uses it, on a process that looks like QEMU.

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>

#include "memory/heat_map.h"
#include "memory/manager/protocol.h"
#include "memory/testing/anatomy.h"
#include "memory/testing/disk_file.h"
#include "memory/testing/manager_child.h"
#include "memory/testing/policy_directory.h"
#include "memory/testing/subject_process.h"

namespace thermocline::manager {
namespace {

using memory::testing::Anatomy;
using memory::testing::ManagerChild;
using memory::testing::SubjectMemory;
using memory::testing::SubjectProcess;
constexpr std::uint64_t mib = 1U << 20;

std::string sharedBackend(std::uint64_t mebibytes) {
    return fmt::format(R"({{"qom-type":"memory-backend-memfd","id":"r","size":{},"share":true}})",
                       mebibytes * mib);
}

TEST(Manager, takesSharedMemoryWithoutPrivilegesOrTraces) {
    ManagerChild manager;
    SubjectProcess subject(64 * mib, SubjectMemory::shared, {"-object", sharedBackend(64)});
    ASSERT_EQ(subject.command("fill 1 plain"), "ok");
    const Anatomy before(subject.pid());
    const auto ready = manager.start(subject.pid(), {"--mechanism", "unmap"});
    ASSERT_TRUE(ready.at("ok").get<bool>()) << ready;
    EXPECT_EQ(ready.at("status").get<Status>().mechanism, "unmap");
    manager.connect();
    (void)manager.call({{"id", 1}, {"method", "set-limit"}, {"params", {{"limit_bytes", 40 * mib}}}});
    Status status;
    do
        status = manager.call({{"id", 1}, {"method", "status"}}).at("result").get<Status>();
    while (status.usedBytes > 40 * mib);
    EXPECT_GT(status.coldBytes, 0U);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    EXPECT_EQ(subject.command("discard 1000 9000"), "ok");
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    (void)manager.call({{"id", 2}, {"method", "detach"}});
    EXPECT_EQ(manager.exitCode(), 0);
    EXPECT_EQ(ManagerChild::run(
                  {"cure", "--pid", std::to_string(subject.pid()), "--state-dir", manager.directory()}),
              0);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    const Anatomy after(subject.pid());
    EXPECT_EQ(before.threads, after.threads);
    EXPECT_EQ(before.descriptors, after.descriptors);
    EXPECT_EQ(before.mappings, after.mappings);
}

TEST(Manager, attachesLimitsAndLeavesWithoutPrivilegesOrTraces) {
    ManagerChild manager;
    SubjectProcess subject(64 * mib, true, {"-m", "64"});
    ASSERT_EQ(subject.command("fill 1 plain"), "ok");
    const Anatomy before(subject.pid());
    const auto ready = manager.start(subject.pid());
    ASSERT_TRUE(ready.at("ok").get<bool>()) << ready;
    EXPECT_EQ(ready.at("status").get<Status>().memoryBytes, 64 * mib);

    const auto own = memory::readProcFile("/proc/" + std::to_string(manager.pid()) + "/status").value();
    for (const char* line :
         {"Uid:\t65534\t65534\t65534\t65534", "CapPrm:\t0000000000800000", "CapEff:\t0000000000800000",
          "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"})
        EXPECT_NE(own.find(line), std::string::npos) << line << " not in\n" << own;
    struct stat info {};
    ASSERT_EQ(::stat((manager.directory() + "/arena").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U);

    manager.connect();
    auto answer = manager.call({{"id", 1}, {"method", "set-limit"}, {"params", {{"limit_bytes", 40 * mib}}}});
    EXPECT_EQ(answer.at("id"), 1);
    EXPECT_EQ(answer.at("result").get<Status>().limitBytes, 40 * mib);
    Status status;
    do
        status = manager.call({{"id", 1}, {"method", "status"}}).at("result").get<Status>();
    while (status.usedBytes > 40 * mib);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    EXPECT_EQ(subject.command("write 0 16384"), "ok");
    answer = manager.call({{"id", "two"}, {"method", "status"}});
    EXPECT_EQ(answer.at("id"), "two");
    EXPECT_GT(answer.at("result").get<Status>().coldFaults, 0U);
    EXPECT_GT(answer.at("result").get<Status>().coldBytes, 0U);

    answer = manager.call({{"id", 3}, {"method", "set-limit"}, {"params", {{"limit_bytes", 1}}}});
    EXPECT_EQ(answer.at("error").at("name"), "InvalidLimit");
    answer = manager.call({{"id", 4}, {"method", "set-limit"}, {"params", {{"limit_bytes", "lots"}}}});
    EXPECT_EQ(answer.at("error").at("name"), "InvalidLimit");
    answer = manager.call({{"id", 5}, {"method", "set-proactive"}, {"params", {{"max_stall", 0.01}}}});
    EXPECT_EQ(answer.at("result").get<Status>().proactiveMaxStall, 0.01);
    for (const nlohmann::json& stall : {nlohmann::json(0.9), nlohmann::json(-1), nlohmann::json("much")}) {
        answer = manager.call({{"id", 5}, {"method", "set-proactive"}, {"params", {{"max_stall", stall}}}});
        EXPECT_EQ(answer.at("error").at("name"), "InvalidArgument") << stall;
    }
    answer = manager.call({{"id", 5}, {"method", "set-proactive"}, {"params", {{"max_stall", 0}}}});
    EXPECT_EQ(answer.at("result").get<Status>().proactiveMaxStall, 0);
    answer = manager.call({{"id", 5}, {"method", "heat"}, {"params", {{"pieces", 8}}}});
    const auto heat = answer.at("result").get<memory::HeatMap>();
    ASSERT_EQ(heat.pieces.size(), 8U);
    std::uint64_t pages = 0;
    for (const auto& piece : heat.pieces)
        pages += piece.hot + piece.resident + piece.staged + piece.cold;
    EXPECT_EQ(pages, 64 * mib / 4096);
    EXPECT_LE(heat.workingSetBytes, 40 * mib);
    answer = manager.call({{"id", 5}, {"method", "heat"}, {"params", {{"pieces", 0}}}});
    EXPECT_EQ(answer.at("error").at("name"), "InvalidArgument");
    answer = manager.call({{"id", 5}, {"method", "dance"}});
    EXPECT_EQ(answer.at("error").at("name"), "InvalidArgument");
    answer = manager.call("no object");
    EXPECT_EQ(answer.at("error").at("name"), "InvalidArgument");
    answer = manager.call({{"id", 6}, {"method", "subscribe"}});
    EXPECT_EQ(answer.at("result"), nlohmann::json::object());
    EXPECT_EQ(manager.receive().at("event"), "status");

    // Refused, and nothing is half done: a second manager, and a cure while pages are elsewhere.
    EXPECT_EQ(ManagerChild::run({"run", "--pid", std::to_string(subject.pid()), "--state-dir", "/dev/shm",
                                 "--name", "second"}),
              1);

    manager.send({{"id", 7}, {"method", "detach"}});
    do
        answer = manager.receive();
    while (!answer.contains("id"));
    EXPECT_EQ(answer.at("id"), 7);
    EXPECT_EQ(answer.at("result").get<Status>().state, "detached");
    EXPECT_EQ(manager.exitCode(), 0);
    EXPECT_EQ(ManagerChild::run(
                  {"cure", "--pid", std::to_string(subject.pid()), "--state-dir", manager.directory()}),
              0);
    EXPECT_TRUE(std::filesystem::is_empty(manager.directory()));
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    const Anatomy after(subject.pid());
    EXPECT_EQ(before.threads, after.threads);
    EXPECT_EQ(before.descriptors, after.descriptors);
    EXPECT_EQ(before.mappings, after.mappings);
}

TEST(Manager, tellsThatTheVmIsGone) {
    ManagerChild manager;
    SubjectProcess subject(32 * mib, false, {"-m", "32"});
    ASSERT_TRUE(manager.start(subject.pid()).at("ok").get<bool>());
    manager.connect();
    manager.call({{"id", 1}, {"method", "subscribe"}});
    subject.kill();
    nlohmann::json packet;
    do
        packet = manager.receive();
    while (!packet.is_null() && packet.at("event") != "gone");
    EXPECT_FALSE(packet.is_null());
    EXPECT_EQ(manager.exitCode(), 0);
}

class ManagerWithPolicy : public ::testing::Test {
  protected:
    /// Attaches with `policy`; returns once `wanted(status)`.
    template <typename Predicate>
    Status start(const std::string& policy, std::vector<std::string> options, Predicate&& wanted) {
        std::vector<std::string> arguments{"--policy", policies_.file(policy), "--policy-dir",
                                           policies_.path()};
        for (auto& option : options)
            arguments.insert(arguments.end(), {"--policy-option", std::move(option)});
        EXPECT_EQ(subject_.command("fill 1 plain"), "ok");
        const auto ready = manager_.start(subject_.pid(), arguments);
        EXPECT_TRUE(ready.at("ok").get<bool>()) << ready;
        manager_.connect();
        return await(wanted);
    }
    template <typename Predicate>
    Status await(Predicate&& wanted) {
        Status status;
        do
            status = manager_.call({{"id", 1}, {"method", "status"}}).at("result").get<Status>();
        while (!wanted(status));
        return status;
    }
    void expectLimitAndDetach() {
        manager_.call({{"id", 1}, {"method", "set-limit"}, {"params", {{"limit_bytes", 24 * mib}}}});
        await([](const Status& status) { return status.usedBytes <= 24 * mib; });
        EXPECT_EQ(subject_.command("verify"), "ok 8192");
        EXPECT_EQ(manager_.call({{"id", 2}, {"method", "detach"}}).at("result").at("state"), "detached");
        EXPECT_EQ(manager_.exitCode(), 0);
        EXPECT_EQ(subject_.command("verify"), "ok 8192");
    }
    static bool switchedOff(const Status& status) { return !status.policyNote.empty(); }

    memory::testing::PolicyDirectory policies_;
    ManagerChild manager_;
    SubjectProcess subject_{32 * mib, false, {"-m", "32"}};
};

TEST_F(ManagerWithPolicy, isLoadedWithoutPrivileges) {
    const auto status =
        start("window", {"window=30"}, [](const Status& now) { return now.policy == "window"; });
    EXPECT_EQ(status.policyNote, "");
    expectLimitAndDetach();
}

TEST_F(ManagerWithPolicy, thatCannotBeUsedLeavesTheBuiltInOneInCharge) {
    const auto status = start("window", {"window=0"}, switchedOff);
    EXPECT_EQ(status.policy, "clock");
    EXPECT_NE(status.policyNote.find("window: 1 to 86400 seconds"), std::string::npos) << status.policyNote;
    expectLimitAndDetach();
}

TEST_F(ManagerWithPolicy, thatNeverComesBackFromLoadingHoldsNothingUp) {
    const auto status = start("blocks_loading", {}, switchedOff);
    EXPECT_NE(status.policyNote.find("load() has not returned after 2000 ms"), std::string::npos)
        << status.policyNote;
    expectLimitAndDetach();
}

TEST_F(ManagerWithPolicy, thatSpinsGetsOnlyWhatNobodyElseWants) {
    start("scripted", {"does=spin-in-tick"}, switchedOff);
    bool found = false;
    const auto tasks = "/proc/" + std::to_string(manager_.pid()) + "/task";
    for (const auto& task : std::filesystem::directory_iterator(tasks)) {
        const auto comm = memory::readProcFile(task.path().string() + "/comm");
        if (!comm || *comm != "policy\n") continue;
        found = true;
        EXPECT_EQ(::getpriority(PRIO_PROCESS, static_cast<id_t>(std::stoi(task.path().filename()))), 19);
    }
    EXPECT_TRUE(found);
    expectLimitAndDetach();
}

TEST(Manager, terminationSignalDetaches) {
    ManagerChild manager;
    SubjectProcess subject(32 * mib, false, {"-m", "32"});
    ASSERT_EQ(subject.command("fill 1 plain"), "ok");
    ASSERT_TRUE(manager.start(subject.pid()).at("ok").get<bool>());
    manager.connect();
    manager.call({{"id", 1}, {"method", "set-limit"}, {"params", {{"limit_bytes", 20 * mib}}}});
    manager.signal(SIGTERM);
    EXPECT_EQ(manager.exitCode(), 0);
    EXPECT_EQ(subject.command("verify"), "ok 8192");
}

TEST(Manager, emptiesTheFileTierAndClosesIt) {
    ManagerChild manager;
    SubjectProcess subject(64 * mib, false, {"-m", "64"});
    ASSERT_EQ(subject.command("fill 1 noise"), "ok");
    // The tests run in the build directory, which is on a disk.
    const auto ready = manager.start(
        subject.pid(), {"--file-tier-dir", std::filesystem::current_path(), "--file-tier-age", "0"});
    ASSERT_TRUE(ready.at("ok").get<bool>()) << ready;
    EXPECT_EQ(ready.at("status").get<Status>().fileTier, "open");
    manager.connect();
    const auto call = [&](const char* method, const nlohmann::json& params) {
        return manager.call({{"id", 1}, {"method", method}, {"params", params}}).at("result").get<Status>();
    };
    auto status = call("set-limit", {{"limit_bytes", 32 * mib}});
    while (status.usedBytes > 32 * mib)
        status = call("status", nullptr);
    EXPECT_GT(status.frozenBytes, 24 * mib);
    EXPECT_GT(status.fileBytes, 24 * mib);

    status = call("close-file-tier", nullptr);
    EXPECT_TRUE(status.fileTier == "being emptied" || status.fileTier == "switched off") << status.fileTier;
    while (status.fileTier == "being emptied")
        status = call("status", nullptr);
    EXPECT_EQ(status.fileTier, "switched off");
    EXPECT_EQ(status.frozenBytes, 0U);
    EXPECT_EQ(status.fileBytes, 0U);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
    EXPECT_EQ(call("close-file-tier", nullptr).state, "attached") << "once more does no harm";
    EXPECT_EQ(manager.call({{"id", 2}, {"method", "detach"}}).at("result").get<Status>().state, "detached");
    EXPECT_EQ(manager.exitCode(), 0);
    EXPECT_EQ(subject.command("verify"), "ok 16384");
}

TEST(Manager, attachesWithoutAFileTierThatCannotBeMade) {
    SubjectProcess subject(32 * mib, false, {"-m", "32"});
    const auto fileTierOf = [&](const std::vector<std::string>& more) {
        ManagerChild manager;
        const auto ready = manager.start(subject.pid(), more);
        EXPECT_TRUE(ready.at("ok").get<bool>()) << ready;
        manager.connect();
        EXPECT_EQ(manager.call({{"id", 1}, {"method", "close-file-tier"}}).at("error").at("name"),
                  "NotSupported");
        manager.call({{"id", 2}, {"method", "detach"}});
        EXPECT_EQ(manager.exitCode(), 0);
        EXPECT_EQ(ManagerChild::run(
                      {"cure", "--pid", std::to_string(subject.pid()), "--state-dir", manager.directory()}),
                  0);
        return ready.at("status").get<Status>().fileTier;
    };
    EXPECT_EQ(fileTierOf({}), "");
    EXPECT_NE(fileTierOf({"--file-tier-dir", "/dev/shm"}).find("not in use: "), std::string::npos);
    EXPECT_NE(fileTierOf({"--file-tier-dir", "/nonexistent"}).find("no such directory"), std::string::npos);
}

TEST(Manager, saysWhyItCannotAttach) {
    ManagerChild manager;
    const auto expectError = [&](const nlohmann::json& ready, const char* name, const char* words) {
        EXPECT_FALSE(ready.at("ok").get<bool>());
        EXPECT_EQ(ready.at("error").at("name"), name) << ready;
        EXPECT_NE(ready.at("error").at("message").get<std::string>().find(words), std::string::npos) << ready;
        EXPECT_EQ(manager.exitCode(), 1);
        EXPECT_TRUE(std::filesystem::is_empty(manager.directory()));
    };
    SubjectProcess plain(32 * mib, false, {"-m", "32"});
    expectError(manager.start(plain.pid(), {"--userfaultfd-device", "/nonexistent"}), "NotSupported",
                "/nonexistent");
    SubjectProcess otherSize(32 * mib, false, {"-m", "33"});
    expectError(manager.start(otherSize.pid()), "NotSupported", "found 0");
    SubjectProcess locked(32 * mib, false, {"-m", "32", "-overcommit", "mem-lock=on"});
    expectError(manager.start(locked.pid()), "NotSupported", "locked");
    SubjectProcess vfio(32 * mib, false, {"-m", "32", "-device", "vfio-pci,host=0000:01:00.0"});
    expectError(manager.start(vfio.pid()), "NotSupported", "vfio-pci");
    SubjectProcess sev(32 * mib, false, {"-m", "32", "-object", R"({"qom-type":"sev-guest","id":"s"})"});
    expectError(manager.start(sev.pid()), "NotSupported", "sev-guest");
    SubjectProcess onDisk(
        32 * mib, false,
        {"-object", R"({"qom-type":"memory-backend-file","id":"r","size":33554432,"share":true})"});
    expectError(manager.start(onDisk.pid()), "NotSupported", "memory-backend-file");
    SubjectProcess shared(32 * mib, SubjectMemory::shared, {"-object", sharedBackend(32)});
    const UniqueFd another(
        ::open(fmt::format("/proc/{}/map_files/{:x}-{:x}", shared.pid(), shared.guestRam()[0].start.value,
                           shared.guestRam()[0].end().value)
                   .c_str(),
               O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(another.valid());
    expectError(manager.start(shared.pid()), "NotSupported", "guest RAM is shared");
    expectError(manager.start(shared.pid(), {"--mechanism", "unmap"}), "NotSupported",
                "(manager_test) has the guest's shared memory");
    SubjectProcess direct(32 * mib, SubjectMemory::shared, {"-object", sharedBackend(32)});
    const memory::testing::DiskFile file;
    ASSERT_EQ(direct.command("read-directly " + file.path() + " 1 16"), "ok");
    expectError(manager.start(direct.pid(), {"--mechanism", "unmap"}), "NotSupported",
                "is open with O_DIRECT");
    SubjectProcess noQemu(32 * mib, false);
    expectError(manager.start(noQemu.pid()), "NotSupported", "QEMU");
    const auto pid = plain.pid();
    plain.kill();
    expectError(manager.start(pid), "ProcessGone", std::to_string(pid).c_str());
}

TEST(Probe, answersForTheHost) {
    EXPECT_EQ(ManagerChild::run({"probe"}), 0);
    EXPECT_EQ(ManagerChild::run({"probe", "--userfaultfd-device", "/nonexistent"}), 1);
}

}  // namespace
}  // namespace thermocline::manager
