// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_key.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "memory/page.h"

namespace thermocline::memory {
namespace {

UniqueFd copyOf(int fd) {
    return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

std::vector<unsigned char> bytesOf(const FrozenKey& key) {
    return {key.bytes(), key.bytes() + FrozenKey::keyBytes};
}

/// The flags that the kernel shows of the mapping at `address`.
std::string flagsAt(const void* address) {
    std::ifstream maps("/proc/self/smaps");
    bool here = false;
    for (std::string line; std::getline(maps, line);) {
        void* from = nullptr;
        void* to = nullptr;
        if (std::sscanf(line.c_str(), "%p-%p", &from, &to) == 2) here = from <= address && address < to;
        if (here && line.starts_with("VmFlags:")) return line + " ";
    }
    return {};
}

TEST(FrozenKey, isInNoCoreDumpNoChildAndNeverSwapped) {
    const auto key = FrozenKey::draw();
    ASSERT_TRUE(key) << key.error().message;
    const auto flags = flagsAt(key->bytes());
    for (const char* flag : {" dd ", " dc ", " lo "})
        EXPECT_NE(flags.find(flag), std::string::npos) << flag << "of" << flags;
    EXPECT_NE(bytesOf(*key), bytesOf(*FrozenKey::draw()));
}

TEST(FrozenKey, cannotBeReadFromOutside) {
    const auto key = FrozenKey::draw();
    ASSERT_TRUE(key);
    ASSERT_GE(key->descriptor(), 0) << "this kernel has no secret memory";
    // Not even by root, and not by the kernel on anybody's behalf.
    const UniqueFd memory(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
    std::array<char, FrozenKey::keyBytes> into{};
    EXPECT_EQ(::pread(memory.get(), into.data(), into.size(), reinterpret_cast<off_t>(key->bytes())), -1);
    EXPECT_EQ(::read(key->descriptor(), into.data(), into.size()), -1);
}

TEST(FrozenKey, goesOnWhereItsDescriptorIsKept) {
    auto key = FrozenKey::draw();
    ASSERT_TRUE(key);
    const auto before = bytesOf(*key);
    auto kept = copyOf(key->descriptor());
    { const auto gone = std::move(*key); }
    auto taken = FrozenKey::take(copyOf(kept.get()));
    ASSERT_TRUE(taken) << taken.error().message;
    EXPECT_EQ(bytesOf(*taken), before);
    taken->wipe();
    const auto again = FrozenKey::take(std::move(kept));
    ASSERT_TRUE(again);
    EXPECT_EQ(bytesOf(*again), std::vector<unsigned char>(FrozenKey::keyBytes))
        << "wiped for one is wiped for all";
}

TEST(FrozenKey, ofNothingElse) {
    EXPECT_FALSE(FrozenKey::take(UniqueFd()));
    UniqueFd ordinary(static_cast<int>(::syscall(SYS_memfd_create, "key", MFD_CLOEXEC)));
    ASSERT_EQ(::ftruncate(ordinary.get(), pageBytes), 0);
    EXPECT_EQ(FrozenKey::take(std::move(ordinary)).error().code, ErrorCode::notSupported);
    UniqueFd large(static_cast<int>(::syscall(447, O_CLOEXEC)));
    ASSERT_EQ(::ftruncate(large.get(), 2 * pageBytes), 0);
    EXPECT_EQ(FrozenKey::take(std::move(large)).error().code, ErrorCode::notSupported);
    EXPECT_FALSE(FrozenKey::take(UniqueFd(static_cast<int>(::syscall(447, O_CLOEXEC)))))
        << "it has no size yet";
}

TEST(FrozenKey, itsSizeIsForGood) {
    const auto key = FrozenKey::draw();
    ASSERT_TRUE(key);
    EXPECT_EQ(::ftruncate(key->descriptor(), 0), -1) << "who has it could make its manager fault";
}

}  // namespace
}  // namespace thermocline::memory
