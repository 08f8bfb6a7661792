// SPDX-License-Identifier: Apache-2.0
#include "memory/copy_hazards.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/unique_fd.h"
#include "memory/testing/disk_file.h"

namespace thermocline::memory {
namespace {

using ::testing::HasSubstr;

QemuCommandLine parsed(const std::vector<std::string>& words) {
    std::string text;
    for (const auto& word : words)
        text.append(word).push_back('\0');
    return parseQemuCommandLine(text).value();
}

std::string refusal(const std::vector<std::string>& words, const std::string& nested = "N\n",
                    Mechanism mechanism = Mechanism::copy) {
    const auto result = refuseCopying(parsed(words), nested, mechanism);
    if (result) return "";
    EXPECT_EQ(result.error().code, ErrorCode::notSupported);
    EXPECT_THAT(result.error().message, HasSubstr("; ")) << "it does not say what to do";
    return result.error().message;
}

TEST(CopyHazards, memoryThatCanBeUnplugged) {
    EXPECT_EQ(refusal({"qemu", "-m", "1G", "-device", "virtio-net-pci,netdev=n"}), "");
    EXPECT_THAT(refusal({"qemu", "-m", "1G", "-device", "pc-dimm,memdev=m1,id=dimm1"}), HasSubstr("pc-dimm"));
    EXPECT_THAT(refusal({"qemu", "-m", "1G", "-device", R"({"driver":"virtio-mem-pci","memdev":"m"})"}),
                HasSubstr("virtio-mem-pci"));
}

TEST(CopyHazards, devicesOfTheKernelThatWriteIntoGuestMemory) {
    EXPECT_THAT(refusal({"qemu", "-m", "1G", "-device", R"({"driver":"vhost-scsi-pci","wwpn":"naa.5"})"}),
                HasSubstr("vhost-scsi-pci"));
    EXPECT_EQ(refusal({"qemu", "-m", "1G", "-device", "virtio-scsi-pci,id=s"}), "");
}

TEST(CopyHazards, areTheSameForSharedMemoryWithAnotherWayOut) {
    const auto unplugged =
        refusal({"qemu", "-m", "1G", "-device", "pc-dimm,memdev=m1,id=dimm1"}, "N", Mechanism::unmap);
    EXPECT_THAT(unplugged, HasSubstr("can only be unmapped"));
    EXPECT_THAT(unplugged, HasSubstr("private memory"));
    EXPECT_THAT(refusal({"qemu", "-m", "1G", "-enable-kvm"}, "Y", Mechanism::unmap),
                HasSubstr("private memory"));
}

TEST(CopyHazards, guestsOfTheGuest) {
    const std::vector<std::string> kvm{"qemu", "-m", "1G", "-accel", "kvm", "-cpu", "host,migratable=on"};
    EXPECT_THAT(refusal(kvm, "Y\n"), HasSubstr("vmx or svm"));
    EXPECT_THAT(refusal(kvm, "1\n"), HasSubstr("nested=0"));
    EXPECT_EQ(refusal(kvm, "N\n"), "");
    EXPECT_EQ(refusal(kvm, ""), "") << "this host's KVM cannot";
    EXPECT_THAT(refusal({"qemu", "-m", "1G", "-machine", "pc,accel=kvm", "-cpu", "Skylake-Server"}, "Y"),
                HasSubstr("guests of its own"));
    EXPECT_THAT(refusal({"qemu", "-m", "1G", "-enable-kvm"}, "Y"), HasSubstr("guests of its own"));
    EXPECT_EQ(refusal({"qemu", "-m", "1G", "-accel", "kvm", "-cpu", "host,vmx=off"}, "Y"), "");
    EXPECT_EQ(refusal({"qemu", "-m", "1G", "-accel", "kvm", "-cpu", "EPYC,svm=off"}, "1"), "");
    EXPECT_EQ(refusal({"qemu", "-m", "1G", "-accel", "tcg", "-cpu", "qemu64"}, "Y"), "");
}

TEST(CopyHazards, filesOpenWithODirect) {
    const testing::DiskFile file;
    const auto plain = parsed({"qemu", "-m", "1G"});
    const UniqueFd buffered(::open(file.path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_TRUE(refuseCopying(::getpid(), plain));
    const UniqueFd direct(::open(file.path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
    ASSERT_TRUE(direct.valid());
    const auto refused = refuseCopying(::getpid(), plain);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::notSupported);
    EXPECT_THAT(refused.error().message, HasSubstr(file.path() + " is open with O_DIRECT"));
    EXPECT_FALSE(refuseCopying(pid_t{1 << 22}, plain)) << "no process has this number";
}

}  // namespace
}  // namespace thermocline::memory
