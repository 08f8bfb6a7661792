// SPDX-License-Identifier: Apache-2.0
#include "memory/process_map.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <thread>

namespace thermocline::memory {
namespace {

TEST(ProcessMap, readsMapsAndSmaps) {
    const auto mappings = parseMappings(
        "55d0c0a00000-55d0c0b00000 r-xp 00001000 fe:00 1234   /usr/bin/a name with blanks\n"
        "Size:               1024 kB\n"
        "Locked:               12 kB\n"
        "VmFlags: rd ex mr mw me \n"
        "7f0000000000-7f0040000000 rw-p 00000000 00:00 0 \n"
        "Locked:                0 kB\n"
        "VmFlags: rd wr mr mw me dc ac sd hg mg \n");
    ASSERT_TRUE(mappings) << mappings.error().message;
    ASSERT_EQ(mappings->size(), 2U);
    EXPECT_EQ((*mappings)[0].path, "/usr/bin/a name with blanks");
    EXPECT_EQ((*mappings)[0].permissions, "r-xp");
    EXPECT_EQ((*mappings)[0].lockedBytes, 12 * 1024U);
    EXPECT_EQ((*mappings)[0].fileOffset, 0x1000U);
    EXPECT_EQ((*mappings)[0].device, "fe:00");
    EXPECT_EQ((*mappings)[0].inode, 1234U);
    EXPECT_FALSE((*mappings)[0].anonymousPrivateWritable());
    EXPECT_EQ((*mappings)[1].range, (VmRange{{0x7f0000000000}, 1U << 30}));
    EXPECT_TRUE((*mappings)[1].anonymousPrivateWritable());
    EXPECT_TRUE((*mappings)[1].hasFlag("dc"));
    EXPECT_TRUE((*mappings)[1].hasFlag("mg"));
    EXPECT_FALSE((*mappings)[1].hasFlag("lo"));
    EXPECT_FALSE((*mappings)[1].hasFlag("m"));
}

TEST(ProcessMap, whatItCannotReadIsAnErrorNotAGap) {
    for (const char* text :
         {"nonsense\n", "10-5 rw-p 0 0:0 0\n", "zz-10 rw-p 0 0:0 0\n", "10-20 rw 0 0:0 0\n", "10-20 rw-p\n",
          "10-20 rw-p far 0:0 0\n", "10-20 rw-p 0 0:0 none\n", "VmFlags: rd\n", " VmFlags: rd\n",
          "10-20 rw-p 0 0:0 0\nLocked: many kB\n"})
        EXPECT_FALSE(parseMappings(text)) << text;
    EXPECT_TRUE(parseMappings("")->empty());
}

TEST(ProcessMap, readsItself) {
    const auto mappings = readMappings(::getpid());
    ASSERT_TRUE(mappings);
    bool stack = false;
    for (const auto& mapping : *mappings)
        stack = stack || mapping.path == "[stack]";
    EXPECT_TRUE(stack);
    EXPECT_GT(processStartTime(::getpid()).value(), 0U);
    EXPECT_EQ(readMappings(0x7fffffff).error().code, ErrorCode::processGone);
    EXPECT_EQ(LastCpu().of(0x7fffffff), std::nullopt);
}

TEST(ProcessMap, tellsOneThreadsCpuAgainAndAgain) {
    LastCpu lastCpu;
    cpu_set_t before;
    ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &before)) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
        EXPECT_EQ(lastCpu.of(::gettid()), cpu);
    }
    ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
    pid_t ended = 0;
    std::thread([&] {
        ended = ::gettid();
        EXPECT_TRUE(lastCpu.of(ended));
    }).join();
    while (::access(fmt::format("/proc/self/task/{}", ended).c_str(), F_OK) == 0)
        std::this_thread::yield();
    EXPECT_EQ(lastCpu.of(ended), std::nullopt);
    EXPECT_TRUE(lastCpu.of(::gettid()));
}

TEST(ProcessMap, tellsWhetherAThreadIsBoundToOneCpu) {
    cpu_set_t before;
    ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
    EXPECT_EQ(isBoundToOneCpu(::gettid()), CPU_COUNT(&before) == 1);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(::sched_getcpu(), &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_TRUE(isBoundToOneCpu(::gettid()));
    EXPECT_FALSE(isBoundToOneCpu(0x7fffffff)) << "there is no such thread";
    ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(ProcessMap, findsStatusFields) {
    EXPECT_EQ(statusField("VmPeak:\t  5 kB\nVmPin:\t     2048 kB\n", "VmPin"), 2048 * 1024U);
    EXPECT_EQ(statusField("VmPin2:\t 1 kB\n", "VmPin"), 0U);
    EXPECT_EQ(statusField("", "VmPin"), 0U);
}

}  // namespace
}  // namespace thermocline::memory
