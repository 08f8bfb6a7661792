// SPDX-License-Identifier: Apache-2.0
#include "memory/userfault.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <vector>

namespace thermocline::memory {
namespace {

class UserfaultTest : public ::testing::Test {
  protected:
    UserfaultTest()
        : uffd_(UniqueFd(::ioctl(UniqueFd(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)).get(),
                                 USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK))),
          memory_(static_cast<std::byte*>(
              ::mmap(nullptr, 4 * pageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {}
    ~UserfaultTest() override { ::munmap(memory_, 4 * pageBytes); }
    [[nodiscard]] VmAddress page(std::size_t i) const {
        return {reinterpret_cast<std::uint64_t>(memory_) + i * pageBytes};
    }

    Userfault uffd_;
    std::byte* memory_;
};

TEST_F(UserfaultTest, aKernelWithoutTheFeaturesIsAnErrorThatNamesTheFix) {
    const auto enabled = uffd_.enable(std::uint64_t{1} << 60);  // as UFFDIO_MOVE is to a kernel before 6.8
    ASSERT_FALSE(enabled);
    EXPECT_EQ(enabled.error().code, ErrorCode::notSupported);
    EXPECT_NE(enabled.error().message.find("Linux 6.8"), std::string::npos) << enabled.error().message;
}

TEST_F(UserfaultTest, copySaysWhatBecameOfThePage) {
    ASSERT_TRUE(uffd_.enable(0));
    ASSERT_TRUE(uffd_.registerMissing({page(0), 2 * pageBytes}));
    const std::vector<std::byte> bytes(2 * pageBytes, std::byte{7});
    std::size_t copied = 0;
    EXPECT_EQ(uffd_.copy(page(0), std::span(bytes).first(pageBytes), copied), Populate::done);
    EXPECT_EQ(copied, pageBytes);
    EXPECT_EQ(memory_[5], std::byte{7});
    EXPECT_EQ(uffd_.copy(page(0), std::span(bytes).first(pageBytes), copied), Populate::present);
    EXPECT_EQ(uffd_.zeroPage(page(0)), Populate::present);
    EXPECT_EQ(uffd_.zeroPage(page(1)), Populate::done);
    EXPECT_EQ(memory_[pageBytes], std::byte{0});
    EXPECT_EQ(uffd_.copy(page(2), std::span(bytes).first(pageBytes), copied), Populate::unmapped)
        << "not registered";
    ASSERT_TRUE(uffd_.unregister({page(0), 2 * pageBytes}));
    EXPECT_FALSE(uffd_.registerMissing({{0x1000}, pageBytes})) << "nothing is mapped there";
}

}  // namespace
}  // namespace thermocline::memory
