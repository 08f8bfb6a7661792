// SPDX-License-Identifier: Apache-2.0
#include "memory/io_ring.h"

#include <gtest/gtest.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <filesystem>

namespace thermocline::memory {
namespace {

bool raised(const IoRing& ring) {
    pollfd waited{ring.event(), POLLIN, 0};
    return ::poll(&waited, 1, 0) == 1;
}

class IoRingTest : public ::testing::Test {
  protected:
    void SetUp() override {
        auto ring = IoRing::create(4);
        ASSERT_TRUE(ring) << ring.error().message;
        ring_ = std::move(*ring);
    }
    UniqueFd file_{::memfd_create("io-ring-test", MFD_CLOEXEC)};
    std::unique_ptr<IoRing> ring_;
};

TEST_F(IoRingTest, writesAndReads) {
    std::array<std::byte, 100> from;
    from.fill(std::byte{42});
    EXPECT_FALSE(ring_->wait()) << "nothing is under way";
    EXPECT_FALSE(raised(*ring_));
    ASSERT_TRUE(ring_->write(file_.get(), from, 1000, 7));
    EXPECT_EQ(ring_->underWay(), 1U);
    const auto written = ring_->wait();
    ASSERT_TRUE(written);
    EXPECT_EQ(written->token, 7U);
    EXPECT_EQ(written->result, 100);
    EXPECT_EQ(ring_->underWay(), 0U);
    EXPECT_TRUE(raised(*ring_));
    ring_->clearEvent();
    EXPECT_FALSE(raised(*ring_));
    std::array<std::byte, 200> into{};
    ASSERT_TRUE(ring_->read(file_.get(), into, 1050, 8));
    const auto read = ring_->wait();
    ASSERT_TRUE(read);
    EXPECT_EQ(read->token, 8U);
    EXPECT_EQ(read->result, 50) << "the file ends there";
    EXPECT_EQ(into[49], std::byte{42});
    EXPECT_EQ(into[50], std::byte{0});
    EXPECT_FALSE(ring_->next());
}

TEST_F(IoRingTest, aFailedOperationHasItsErrno) {
    std::array<std::byte, 8> bytes{};
    ASSERT_TRUE(ring_->read(-1, bytes, 0, 1));
    const auto done = ring_->wait();
    ASSERT_TRUE(done);
    EXPECT_EQ(done->result, -EBADF);
}

TEST_F(IoRingTest, itsEndWaitsForWhatIsUnderWay) {
    std::array<std::byte, 8> bytes{};
    for (std::uint64_t token = 0; token < 4; ++token)
        ASSERT_TRUE(ring_->write(file_.get(), bytes, token * 8, token));
    ring_.reset();
    EXPECT_EQ(::lseek(file_.get(), 0, SEEK_END), 32);
}

TEST_F(IoRingTest, isOfNoUseForAnythingElse) {
    int ring = -1;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code error;
        if (std::filesystem::read_symlink(entry.path(), error) == "anon_inode:[io_uring]")
            ring = std::stoi(entry.path().filename());
    }
    ASSERT_GE(ring, 0);
    int file = file_.get();
    EXPECT_EQ(::syscall(__NR_io_uring_register, ring, IORING_REGISTER_FILES, &file, 1), -1);
    EXPECT_EQ(errno, EACCES);
}

}  // namespace
}  // namespace thermocline::memory
