// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_cipher.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <mutex>

namespace thermocline::memory {
namespace {

/// A context lives for one record only: OpenSSL expands the key into it, on the ordinary heap, and overwrites
/// that when the context is freed. Kept contexts would save a quarter of a microsecond and leave copies of
/// the key in memory that is neither locked nor kept out of core dumps.
struct FreeContext {
    void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

struct Bound {
    std::array<unsigned char, 12> nonce;
    std::array<unsigned char, 16> associated;

    explicit Bound(const FrozenIdentity& identity) {
        const auto place = static_cast<std::uint32_t>(identity.granule);
        std::memcpy(nonce.data(), &identity.serial, 8);
        std::memcpy(nonce.data() + 8, &place, 4);
        std::memcpy(associated.data(), &identity.page, 8);
        std::memcpy(associated.data() + 8, &identity.granule, 8);
    }
};

const unsigned char* in(std::span<const std::byte> bytes) {
    return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* out(std::span<std::byte> bytes) {
    return reinterpret_cast<unsigned char*>(bytes.data());
}

}  // namespace

tl::unexpected<Error> failSwitchedOff() {
    return fail(ErrorCode::notSupported, "the file tier was switched off");
}

Result<std::unique_ptr<FrozenCipher>> FrozenCipher::create(FrozenKey key) {
    auto* algorithm = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
    if (algorithm == nullptr) return fail(ErrorCode::notSupported, "this OpenSSL has no AES-256-GCM");
    return std::unique_ptr<FrozenCipher>(new FrozenCipher(std::move(key), algorithm));
}

FrozenCipher::~FrozenCipher() {
    EVP_CIPHER_free(algorithm_);
}

void FrozenCipher::wipe() {
    // Said first: from here on nobody begins, so that the exclusive lock is had soon however many want the
    // shared one.
    wiped_.store(true, std::memory_order_release);
    const std::unique_lock lock(keyInUse_);
    key_.wipe();
}

Result<void> FrozenCipher::seal(const FrozenIdentity& identity, std::span<const std::byte> plain,
                                std::span<std::byte> sealed) const {
    assert(sealed.size() == plain.size() + tagBytes);
    if (wiped()) return failSwitchedOff();
    const std::shared_lock lock(keyInUse_);
    if (wiped()) return failSwitchedOff();
    const Bound bound(identity);
    const Context context(EVP_CIPHER_CTX_new());
    int bytes = 0;
    int rest = 0;
    if (!context ||
        EVP_EncryptInit_ex2(context.get(), algorithm_, key_.bytes(), bound.nonce.data(), nullptr) != 1 ||
        EVP_EncryptUpdate(context.get(), nullptr, &bytes, bound.associated.data(), bound.associated.size()) !=
            1 ||
        EVP_EncryptUpdate(context.get(), out(sealed), &bytes, in(plain), static_cast<int>(plain.size())) !=
            1 ||
        EVP_EncryptFinal_ex(context.get(), out(sealed) + bytes, &rest) != 1 ||
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, tagBytes, out(sealed) + plain.size()) != 1)
        return fail(ErrorCode::internal, "OpenSSL refused to encrypt a record of the file tier");
    return {};
}

Result<void> FrozenCipher::open(const FrozenIdentity& identity, std::span<const std::byte> sealed,
                                std::span<std::byte> plain) const {
    assert(sealed.size() == plain.size() + tagBytes);
    if (wiped()) return failSwitchedOff();
    const std::shared_lock lock(keyInUse_);
    if (wiped()) return failSwitchedOff();
    const Bound bound(identity);
    const Context context(EVP_CIPHER_CTX_new());
    std::array<unsigned char, tagBytes> tag;
    std::memcpy(tag.data(), sealed.data() + plain.size(), tagBytes);
    int bytes = 0;
    int rest = 0;
    if (context &&
        EVP_DecryptInit_ex2(context.get(), algorithm_, key_.bytes(), bound.nonce.data(), nullptr) == 1 &&
        EVP_DecryptUpdate(context.get(), nullptr, &bytes, bound.associated.data(), bound.associated.size()) ==
            1 &&
        EVP_DecryptUpdate(context.get(), out(plain), &bytes, in(sealed), static_cast<int>(plain.size())) ==
            1 &&
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, tagBytes, tag.data()) == 1 &&
        EVP_DecryptFinal_ex(context.get(), out(plain) + bytes, &rest) == 1)
        return {};
    // The bytes are written before the tag is looked at: nobody may see them when it is wrong.
    std::fill(plain.begin(), plain.end(), std::byte{});
    return fail(ErrorCode::systemError,
                "the record is damaged, or is not the one that was written there last");
}

}  // namespace thermocline::memory
