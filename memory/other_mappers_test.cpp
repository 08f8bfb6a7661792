// SPDX-License-Identifier: Apache-2.0
#include "memory/other_mappers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/unique_fd.h"

namespace thermocline::memory {
namespace {

using ::testing::HasSubstr;
constexpr std::size_t bytes = 16 * pageBytes;

/// A memfd that this process has mapped, as QEMU has guest RAM.
class OtherMappers : public ::testing::Test {
  protected:
    OtherMappers()
        : file_(::memfd_create("guest-ram", MFD_CLOEXEC)),
          sized_(::ftruncate(file_.get(), bytes)),
          address_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0)) {
        ::madvise(address_, bytes, MADV_DONTFORK);
    }
    ~OtherMappers() override {
        ::munmap(address_, bytes);
        if (child_ <= 0) return;
        ::kill(child_, SIGKILL);
        ::waitpid(child_, nullptr, 0);
    }
    /// A child that closes the file or keeps it, after it has mapped it or not.
    void fork(bool maps, bool keepsOpen) {
        std::array<int, 2> ready{};
        ASSERT_EQ(::pipe(ready.data()), 0);
        child_ = ::fork();
        if (child_ == 0) {
            ::close(ready[0]);
            if (maps) ::mmap(nullptr, pageBytes, PROT_READ, MAP_SHARED, file_.get(), 0);
            if (!keepsOpen) file_.reset();
            ::close(ready[1]);
            for (;;)
                ::pause();
        }
        ::close(ready[1]);
        char end = 0;
        ASSERT_EQ(::read(ready[0], &end, 1), 0);
        ::close(ready[0]);
    }
    [[nodiscard]] std::vector<VmRange> ram() const {
        return {{{reinterpret_cast<std::uint64_t>(address_)}, bytes}};
    }

    UniqueFd file_;
    int sized_;
    void* address_;
    pid_t child_ = 0;
};

TEST_F(OtherMappers, nobodyElse) {
    const auto found = findOtherMapper(::getpid(), ram());
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_FALSE(*found);
    EXPECT_TRUE(refuseOtherMappers(::getpid(), ram()));
}

TEST_F(OtherMappers, aProcessThatHasItMapped) {
    fork(true, false);
    const auto found = findOtherMapper(::getpid(), ram());
    ASSERT_TRUE(found && *found);
    EXPECT_EQ((*found)->pid, child_);
    EXPECT_EQ((*found)->command, "memory_test");
    EXPECT_TRUE((*found)->maps);
    EXPECT_FALSE(*findOtherMapper(::getpid(), ram(), child_)) << "it was not to count";
    const auto refused = refuseOtherMappers(::getpid(), ram());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::notSupported);
    EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(child_) + " (memory_test)"));
    EXPECT_THAT(refused.error().message, HasSubstr("; remove vhost-user devices"));
}

TEST_F(OtherMappers, aProcessThatHasItOpen) {
    fork(false, true);
    const auto found = findOtherMapper(::getpid(), ram());
    ASSERT_TRUE(found && *found);
    EXPECT_EQ((*found)->pid, child_);
    EXPECT_FALSE((*found)->maps);
}

TEST_F(OtherMappers, aProcessThatHasNeither) {
    fork(false, false);
    EXPECT_FALSE(*findOtherMapper(::getpid(), ram()));
}

TEST_F(OtherMappers, theProcessItselfByAnotherMapping) {
    void* again = ::mmap(nullptr, pageBytes, PROT_READ, MAP_SHARED, file_.get(), 0);
    const auto found = findOtherMapper(::getpid(), ram());
    ::munmap(again, pageBytes);
    ASSERT_TRUE(found && *found);
    EXPECT_EQ((*found)->pid, ::getpid());
    EXPECT_FALSE(*findOtherMapper(::getpid(), ram()));
}

TEST_F(OtherMappers, memoryThatIsNoFilesIsAnError) {
    void* anonymous = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const auto found = findOtherMapper(::getpid(), {{{reinterpret_cast<std::uint64_t>(anonymous)}, bytes}});
    ::munmap(anonymous, bytes);
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, ErrorCode::notSupported);
    EXPECT_EQ(findOtherMapper(1 << 22, ram()).error().code, ErrorCode::processGone);
}

}  // namespace
}  // namespace thermocline::memory
