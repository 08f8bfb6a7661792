// SPDX-License-Identifier: Apache-2.0
#include "daemon/qemu_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "daemon/testing/fake_vm.h"
#include "db/testing/temporary_directory.h"

namespace thermocline {
namespace {

constexpr const char* uuid = "11111111-2222-3333-4444-555555555555";

class QemuProcessesTest : public ::testing::Test {
  protected:
    void SetUp() override {
        std::filesystem::create_directory(proc());
        std::filesystem::create_directory(pidFiles());
    }
    void addProcess(int pid, const std::string& commandLine) const {
        std::filesystem::create_directory(proc() / std::to_string(pid));
        std::ofstream(proc() / std::to_string(pid) / "cmdline") << commandLine;
    }
    void addPidFile(const std::string& name, const std::string& content) const {
        std::ofstream(pidFiles() / (name + ".pid")) << content;
    }
    [[nodiscard]] static std::string qemu(const std::string& id) {
        const std::string text = "/usr/bin/qemu-system-x86_64|-name|guest=vm|-uuid|" + id + "|-display|none|";
        std::string line;
        for (const char c : text)
            line += c == '|' ? '\0' : c;
        return line;
    }
    [[nodiscard]] std::filesystem::path proc() const { return directory_.path() / "proc"; }
    [[nodiscard]] std::filesystem::path pidFiles() const { return directory_.path() / "qemu"; }

    thermocline::testing::TemporaryDirectory directory_;
    QemuProcesses processes_{directory_.path() / "qemu", directory_.path() / "proc"};
};

TEST_F(QemuProcessesTest, takesThePidFilesProcess) {
    addProcess(10, qemu(uuid));
    addProcess(20, qemu(uuid));  // an impostor: the pid file decides
    addPidFile("vm", "20\n");
    EXPECT_EQ(processes_.find(uuid, "vm").value(), 20);
}

TEST_F(QemuProcessesTest, distrustsAPidFileOfAnotherProcess) {
    addProcess(10, qemu(uuid));
    addProcess(20, qemu("99999999-2222-3333-4444-555555555555"));
    addPidFile("vm", "20");
    EXPECT_EQ(processes_.find(uuid, "vm").value(), 10);
}

TEST_F(QemuProcessesTest, searchesWhereThereIsNoPidFileAndGuessesNever) {
    addProcess(1, "init");
    addProcess(10, qemu(uuid));
    std::filesystem::create_directory(proc() / "self");
    EXPECT_EQ(processes_.find(uuid, "vm").value(), 10);
    addProcess(11, qemu(uuid));
    const auto two = processes_.find(uuid, "vm");
    ASSERT_FALSE(two);
    EXPECT_EQ(two.error().code, ErrorCode::systemError);
    EXPECT_THAT(two.error().message, ::testing::HasSubstr("both claim"));
}

TEST_F(QemuProcessesTest, wantsTheUuidAsAnArgumentOfItsOwn) {
    addProcess(10, std::string("cat\0/images/", 12) + uuid + std::string("\0-uuid", 6));
    addProcess(11, std::string("vi\0-uuid\0x", 10) + uuid + std::string("\0", 1));
    const auto none = processes_.find(uuid, "vm");
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, ErrorCode::processGone);
}

TEST_F(QemuProcessesTest, aNameDoesNotLeadOutOfTheDirectory) {
    addProcess(10, qemu(uuid));
    addProcess(11, qemu(uuid));
    std::ofstream(directory_.path() / "evil.pid") << "10";
    EXPECT_FALSE(processes_.find(uuid, "../evil"));
}

TEST(QemuProcessesForReal, findsARunningProcessAndItsStart) {
    const std::string unique = testing::uniqueUuid();
    const testing::FakeVm vm(unique);
    const QemuProcesses processes("/nonexistent");
    EXPECT_EQ(processes.find(unique, "vm").value(), vm.pid());
    const auto own = processes.startTime(::getpid());
    const auto later = processes.startTime(vm.pid());
    ASSERT_TRUE(own && later);
    EXPECT_GT(*own, 0U);
    EXPECT_GE(*later, *own);
    EXPECT_EQ(processes.startTime(999999999).error().code, ErrorCode::processGone);
}

}  // namespace
}  // namespace thermocline
