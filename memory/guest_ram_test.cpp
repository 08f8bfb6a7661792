// SPDX-License-Identifier: Apache-2.0
#include "memory/guest_ram.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace thermocline::memory {
namespace {

std::string commandLine(const std::vector<std::string>& words) {
    std::string text;
    for (const auto& word : words)
        text.append(word).push_back('\0');
    return text;
}

Mapping mapping(std::uint64_t start, std::uint64_t bytes, const std::string& flags = " rd wr dc hg ") {
    return {{{start}, bytes}, "rw-p", "", flags, 0};
}

Mapping sharedMapping(std::uint64_t start, std::uint64_t bytes, const std::string& flags = " rd wr sh dc ") {
    return {{{start}, bytes}, "rw-s", "/memfd:memory-backend-memfd (deleted)", flags, 0};
}

constexpr std::uint64_t gib = 1U << 30;

TEST(QemuCommandLine, readsBothFormsOfBackends) {
    const auto parsed = parseQemuCommandLine(
        commandLine({"qemu-system-x86_64", "-m", "size=2097152k", "-object",
                     R"({"qom-type":"memory-backend-ram","id":"ram-node0","size":1073741824})", "-object",
                     "memory-backend-file,id=n1,size=1G,share=on,mem-path=/dev/hugepages", "-uuid", "abc",
                     "-overcommit", "mem-lock=off"}));
    ASSERT_TRUE(parsed) << parsed.error().message;
    ASSERT_EQ(parsed->backends.size(), 2U);
    EXPECT_EQ(parsed->backends[0].type, "memory-backend-ram");
    EXPECT_EQ(parsed->backends[0].bytes, gib);
    EXPECT_FALSE(parsed->backends[0].shared);
    EXPECT_EQ(parsed->backends[1].type, "memory-backend-file");
    EXPECT_EQ(parsed->backends[1].bytes, gib);
    EXPECT_TRUE(parsed->backends[1].shared);
    EXPECT_EQ(parsed->uuid, "abc");
    EXPECT_FALSE(parsed->memoryLocked);
}

TEST(QemuCommandLine, aMemfdIsSharedUnlessItSaysOtherwise) {
    const auto parsed = parseQemuCommandLine(commandLine(
        {"qemu", "-object", R"({"qom-type":"memory-backend-memfd","id":"a","share":true,"size":1073741824})",
         "-object", R"({"qom-type":"memory-backend-memfd","id":"b","hugetlb":true,"size":1073741824})",
         "-object", "memory-backend-memfd,id=c,share=off,size=1G"}));
    ASSERT_TRUE(parsed) << parsed.error().message;
    ASSERT_EQ(parsed->backends.size(), 3U);
    EXPECT_TRUE(parsed->backends[0].shared);
    EXPECT_FALSE(parsed->backends[0].hugetlb);
    EXPECT_TRUE(parsed->backends[1].shared);
    EXPECT_TRUE(parsed->backends[1].hugetlb);
    EXPECT_FALSE(parsed->backends[2].shared);
}

TEST(QemuCommandLine, takesPlainMemoryWhereThereIsNoBackend) {
    EXPECT_EQ(parseQemuCommandLine(commandLine({"qemu", "-m", "512"}))->backends[0].bytes, gib / 2);
    EXPECT_EQ(
        parseQemuCommandLine(commandLine({"qemu", "--m", "size=1G,slots=4,maxmem=8G"}))->backends[0].bytes,
        gib);
}

TEST(QemuCommandLine, seesWhatForbidsOvercommit) {
    const auto parsed = parseQemuCommandLine(commandLine(
        {"qemu", "-m", "1G", "-overcommit", "mem-lock=on", "-device",
         R"({"driver":"vfio-pci","host":"1:0.0"})", "-object", R"({"qom-type":"tdx-guest","id":"t"})"}));
    ASSERT_TRUE(parsed);
    EXPECT_TRUE(parsed->memoryLocked);
    EXPECT_EQ(parsed->pinningDevice, "vfio-pci");
    EXPECT_EQ(parsed->encryption, "tdx-guest");
    EXPECT_EQ(
        parseQemuCommandLine(commandLine({"q", "-m", "1", "-netdev", "vhost-vdpa,id=n"}))->pinningDevice,
        "vhost-vdpa");
    EXPECT_EQ(parsed->sharingDevice, "");
    EXPECT_EQ(parseQemuCommandLine(commandLine({"q", "-m", "1", "-netdev", "vhost-user,id=n,chardev=c"}))
                  ->sharingDevice,
              "vhost-user");
    EXPECT_EQ(parseQemuCommandLine(
                  commandLine({"q", "-m", "1", "-device", R"({"driver":"vhost-user-fs-pci","tag":"t"})"}))
                  ->sharingDevice,
              "vhost-user-fs-pci");
}

TEST(QemuCommandLine, hostileTextIsNoCrash) {
    for (const auto& words : std::vector<std::vector<std::string>>{
             {},
             {""},
             {"-m"},
             {"q", "-m", ""},
             {"q", "-m", "99999999999999999999"},
             {"q", "-m", "18446744073709551615T"},
             {"q", "-object", "{"},
             {"q", "-object", "[1]"},
             {"q", "-object", R"({"qom-type":5})"},
             {"q", "-m", "1Z"},
             {"q", "-object", R"({"qom-type":"memory-backend-ram","size":-1})"},
             {"q", "-object", ",,,=,="}}) {
        const auto parsed = parseQemuCommandLine(commandLine(words));
        if (parsed) {
            EXPECT_FALSE(locateGuestRam(*parsed, {}));
        }
    }
}

TEST(GuestRam, isFoundBySizeAndFlag) {
    QemuCommandLine line;
    line.backends = {{"memory-backend-ram", "a", gib, false},
                     {"memory-backend-ram", "b", gib, false},
                     {"memory-backend-ram", "dimm0", gib / 4, false}};
    const auto ram = locateGuestRam(
        line, {mapping(3 * gib, gib), mapping(gib, gib), mapping(8 * gib, gib / 4),
               mapping(10 * gib, gib, " rd wr ")});  // the last may be inherited: not guest RAM
    ASSERT_TRUE(ram) << ram.error().message;
    ASSERT_EQ(ram->ranges.size(), 3U);
    EXPECT_EQ(ram->ranges[0].start.value, gib);
    EXPECT_EQ(ram->ranges[2].bytes, gib / 4);
    EXPECT_EQ(ram->bytes(), 2 * gib + gib / 4);
}

TEST(GuestRam, isNeverGuessed) {
    QemuCommandLine line;
    line.backends = {{"memory-backend-ram", "pc.ram", gib, false}};
    const auto refused = [&](const std::vector<Mapping>& mappings, const char* words) {
        const auto ram = locateGuestRam(line, mappings);
        ASSERT_FALSE(ram) << words;
        EXPECT_EQ(ram.error().code, ErrorCode::notSupported);
        EXPECT_NE(ram.error().message.find(words), std::string::npos) << ram.error().message;
    };
    refused({}, "found 0");
    refused({mapping(gib, gib), mapping(3 * gib, gib)}, "found 2");
    refused({mapping(gib, gib, " rd wr dc lo ")}, "locked");
    refused({mapping(gib, gib, " rd wr dc um ")}, "another userfaultfd");
    refused({mapping(gib, gib, " rd wr dc ht ")}, "hugetlbfs");
    line.backends[0] = {"memory-backend-ram", "pc.ram", 0, false};
    refused({mapping(gib, gib)}, "size");
    line.backends[0] = {"memory-backend-file", "pc.ram", gib, true};
    refused({mapping(gib, gib)}, "shared memory-backend-file");
    line.backends[0] = {"memory-backend-memfd", "pc.ram", gib, false};
    refused({mapping(gib, gib)}, "private memory-backend-memfd");
    line.backends[0] = {"memory-backend-memfd", "pc.ram", gib, true, true};
    refused({sharedMapping(gib, gib)}, "hugetlbfs");
}

TEST(GuestRam, mayBeShared) {
    QemuCommandLine line;
    const auto refused = [&](const std::vector<Mapping>& mappings, const char* words) {
        const auto ram = locateGuestRam(line, mappings);
        ASSERT_FALSE(ram) << words;
        EXPECT_NE(ram.error().message.find(words), std::string::npos) << ram.error().message;
    };
    line.backends = {{"memory-backend-memfd", "a", gib, true}, {"memory-backend-ram", "b", gib, true}};
    auto anonymous = sharedMapping(3 * gib, gib);
    anonymous.path = "/dev/zero (deleted)";
    const auto ram = locateGuestRam(line, {sharedMapping(gib, gib), anonymous, mapping(7 * gib, gib)});
    ASSERT_TRUE(ram) << ram.error().message;
    EXPECT_TRUE(ram->shared);
    EXPECT_EQ(ram->ranges.size(), 2U);
    auto onDisk = anonymous;
    onDisk.path = "/var/lib/libvirt/qemu/ram/a";
    refused({sharedMapping(gib, gib), onDisk}, "expected 2 shared mapping(s) of 1073741824 bytes");
    refused({sharedMapping(gib, gib), mapping(3 * gib, gib)}, "found 1");
    refused({sharedMapping(gib, gib), sharedMapping(3 * gib, gib, " rd wr sh dc ht ")}, "hugetlbfs");
    line.sharingDevice = "vhost-user-fs-pci";
    refused({sharedMapping(gib, gib), anonymous}, "device vhost-user-fs-pci gives the guest's memory to");
    line.sharingDevice = {};
    line.backends[1].shared = false;
    refused({sharedMapping(gib, gib), mapping(3 * gib, gib)}, "some of the guest's RAM is shared");
}

}  // namespace
}  // namespace thermocline::memory
