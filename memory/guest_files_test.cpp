// SPDX-License-Identifier: Apache-2.0
#include "memory/guest_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>

namespace thermocline::memory {
namespace {

constexpr std::uint64_t pages = 64;

/// Part of a memfd that this process has mapped, behind a hole of 8 pages.
class GuestFilesTest : public ::testing::Test {
  protected:
    static constexpr std::uint64_t before = 8;
    GuestFilesTest()
        : file_(::memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING)),
          sized_(::ftruncate(file_.get(), (before + pages) * pageBytes)),
          memory_(static_cast<char*>(::mmap(nullptr, pages * pageBytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                                            file_.get(), before * pageBytes))) {
        for (std::uint64_t page = 0; page < pages; ++page)
            if (page < 10 || page >= 20) memory_[page * pageBytes] = static_cast<char>(page + 1);
    }
    ~GuestFilesTest() override { ::munmap(memory_, pages * pageBytes); }
    [[nodiscard]] std::vector<VmRange> ram() const {
        return {{{reinterpret_cast<std::uint64_t>(memory_)}, pages * pageBytes}};
    }
    /// Page numbers start where the address lies within 2 MiB.
    [[nodiscard]] PageNumber first() const { return ram()[0].start.value % blockBytes / pageBytes; }
    static std::string runs(const GuestFiles& files, PageNumber from, std::uint64_t count) {
        std::string text;
        EXPECT_TRUE(files.forEachPage(from, count, [&](PageNumber run, std::uint64_t length) {
            text += std::to_string(run - from) + "+" + std::to_string(length) + " ";
        }));
        return text;
    }

    UniqueFd file_;
    int sized_;
    char* memory_;
};

TEST_F(GuestFilesTest, readsWritesAndFreesPagesByTheirNumbers) {
    const auto files = GuestFiles::open(::getpid(), ram());
    ASSERT_TRUE(files) << files.error().message;
    EXPECT_EQ(runs(*files, first(), pages), "0+10 20+44 ");
    EXPECT_EQ(runs(*files, first() + 5, 20), "0+5 15+5 ");
    EXPECT_EQ(runs(*files, first() + 12, 4), "");
    std::array<std::byte, 2 * pageBytes> bytes{};
    ASSERT_TRUE(files->read(first() + 9, bytes));
    EXPECT_EQ(bytes[0], std::byte{10});
    EXPECT_EQ(bytes[pageBytes], std::byte{0});
    EXPECT_EQ(runs(*files, first(), pages), "0+10 20+44 ") << "a hole that was read stays one";
    bytes[pageBytes] = std::byte{77};
    ASSERT_TRUE(files->write(first() + 9, bytes));
    EXPECT_EQ(memory_[10 * pageBytes], 77);
    ASSERT_TRUE(files->punch(first() + 2, 50));
    EXPECT_EQ(runs(*files, first(), pages), "0+2 52+12 ");
    EXPECT_EQ(memory_[1 * pageBytes], 2);
    EXPECT_EQ(memory_[9 * pageBytes], 0);
    EXPECT_EQ(memory_[52 * pageBytes], 53);
    EXPECT_FALSE(files->punch(first() + pages - 1, 2)) << "beyond guest RAM";
    EXPECT_FALSE(files->read(first() + pages, bytes));
}

TEST(GuestFiles, sharedAnonymousMemoryHasAFileToo) {
    auto* memory = static_cast<char*>(
        ::mmap(nullptr, 4 * pageBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    memory[2 * pageBytes] = 5;
    const VmRange range{{reinterpret_cast<std::uint64_t>(memory)}, 4 * pageBytes};
    const auto files = GuestFiles::open(::getpid(), {range});
    ASSERT_TRUE(files) << files.error().message;
    const auto first = range.start.value % blockBytes / pageBytes;
    std::array<std::byte, pageBytes> bytes{};
    EXPECT_TRUE(files->read(first + 2, bytes));
    EXPECT_EQ(bytes[0], std::byte{5});
    EXPECT_TRUE(files->punch(first + 2, 1));
    EXPECT_EQ(memory[2 * pageBytes], 0);
    ::munmap(memory, range.bytes);
}

TEST_F(GuestFilesTest, whatIsNoSharedFileOrCannotBeFreedIsRefused) {
    void* anonymous = ::mmap(nullptr, pageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const auto none =
        GuestFiles::open(::getpid(), {{{reinterpret_cast<std::uint64_t>(anonymous)}, pageBytes}});
    ::munmap(anonymous, pageBytes);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, ErrorCode::notSupported);
    ASSERT_EQ(::fcntl(file_.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), 0);
    EXPECT_TRUE(GuestFiles::open(::getpid(), ram()));
    ASSERT_EQ(::fcntl(file_.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    const auto sealed = GuestFiles::open(::getpid(), ram());
    ASSERT_FALSE(sealed);
    EXPECT_EQ(sealed.error().code, ErrorCode::notSupported);
    EXPECT_NE(sealed.error().message.find("sealed"), std::string::npos) << sealed.error().message;
}

}  // namespace
}  // namespace thermocline::memory
