// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_cipher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace thermocline::memory {
namespace {

std::vector<std::byte> text(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<std::byte>('a' + i % 26);
    return bytes;
}

std::vector<std::byte> sealed(const FrozenCipher& cipher, const FrozenIdentity& identity,
                              const std::vector<std::byte>& plain) {
    std::vector<std::byte> bytes(plain.size() + FrozenCipher::tagBytes);
    EXPECT_TRUE(cipher.seal(identity, plain, bytes));
    return bytes;
}

class FrozenCipherTest : public ::testing::Test {
  protected:
    void SetUp() override {
        auto cipher = FrozenCipher::create(std::move(FrozenKey::draw().value()));
        ASSERT_TRUE(cipher) << cipher.error().message;
        cipher_ = std::move(*cipher);
    }
    std::unique_ptr<FrozenCipher> cipher_;
    static constexpr FrozenIdentity identity{7, 4711, 3};
};

TEST_F(FrozenCipherTest, opensWhatItSealed) {
    for (const std::size_t size : {1U, 15U, 16U, 17U, 4095U, 4096U}) {
        const auto plain = text(size);
        const auto bytes = sealed(*cipher_, identity, plain);
        if (size >= 8) {
            EXPECT_EQ(std::search(bytes.begin(), bytes.end(), plain.begin(), plain.begin() + 8), bytes.end());
        }
        std::vector<std::byte> back(size);
        ASSERT_TRUE(cipher_->open(identity, bytes, back)) << size;
        EXPECT_EQ(back, plain);
    }
}

TEST_F(FrozenCipherTest, refusesAllButTheVeryRecord) {
    const auto plain = text(1000);
    const auto bytes = sealed(*cipher_, identity, plain);
    const std::vector<std::byte> zeros(1000);
    for (const FrozenIdentity other :
         {FrozenIdentity{8, 4711, 3}, FrozenIdentity{7, 4712, 3}, FrozenIdentity{7, 4711, 4},
          FrozenIdentity{7, 4711 + (1ULL << 32), 3}}) {
        auto back = plain;
        const auto opened = cipher_->open(other, bytes, back);
        ASSERT_FALSE(opened) << other.page << ' ' << other.granule << ' ' << other.serial;
        EXPECT_EQ(opened.error().code, ErrorCode::systemError);
        EXPECT_EQ(back, zeros) << "bytes that are not to be trusted were handed out";
    }
    for (std::size_t at = 0; at < bytes.size(); at += 5) {
        auto damaged = bytes;
        damaged[at] ^= std::byte{0x20};
        auto back = plain;
        EXPECT_FALSE(cipher_->open(identity, damaged, back)) << at;
        EXPECT_EQ(back, zeros);
    }
}

TEST_F(FrozenCipherTest, anotherKeyOpensNothing) {
    const auto other = FrozenCipher::create(std::move(FrozenKey::draw().value()));
    ASSERT_TRUE(other);
    const auto bytes = sealed(*cipher_, identity, text(100));
    EXPECT_NE(bytes, sealed(**other, identity, text(100)));
    std::vector<std::byte> back(100);
    EXPECT_FALSE((*other)->open(identity, bytes, back));
}

TEST_F(FrozenCipherTest, nothingIsOpenedOrSealedAfterWipe) {
    const auto bytes = sealed(*cipher_, identity, text(100));
    const auto isZero = [](unsigned char byte) { return byte == 0; };
    const auto* key = cipher_->key().bytes();
    EXPECT_FALSE(std::all_of(key, key + FrozenKey::keyBytes, isZero));
    cipher_->wipe();
    EXPECT_TRUE(std::all_of(key, key + pageBytes, isZero)) << "the key is still there";
    EXPECT_TRUE(cipher_->wiped());
    std::vector<std::byte> back(100);
    const auto opened = cipher_->open(identity, bytes, back);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().message, "the file tier was switched off");
    std::vector<std::byte> more(116);
    EXPECT_FALSE(cipher_->seal(identity, back, more));
}

}  // namespace
}  // namespace thermocline::memory
