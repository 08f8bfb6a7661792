// SPDX-License-Identifier: Apache-2.0
#pragma once

// Encrypts the records of the file tier: AES-256-GCM. A record is bound to its page, its place and the
// filling of its segment: what open() accepts is what seal() made for exactly these, under the same key.
// Thread-safe.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <span>
#include <utility>

#include "common/error.h"
#include "memory/frozen_key.h"
#include "memory/page.h"

struct evp_cipher_st;

namespace thermocline::memory {

/// What a record is bound to. REQUIRES of who seals: no two records with the same `serial` and the same low
/// 32 bits of `granule`, as these are the nonce.
struct FrozenIdentity {
    PageNumber page = 0;
    std::uint64_t granule = 0;  ///< where it lies in the file, in units of 16 bytes
    std::uint64_t serial =
        0;  ///< which filling of its segment, counted over the whole store: tells old from new
};

class FrozenCipher {
  public:
    /// A sealed record is this much longer than its bytes.
    static constexpr std::size_t tagBytes = 16;

    /// Error: notSupported where OpenSSL does not know the algorithm.
    static Result<std::unique_ptr<FrozenCipher>> create(FrozenKey key);
    ~FrozenCipher();
    FrozenCipher(const FrozenCipher&) = delete;
    FrozenCipher& operator=(const FrozenCipher&) = delete;

    /// `sealed` gets the bytes encrypted, then the tag. REQUIRES: sealed.size() == plain.size() + tagBytes.
    /// Error: notSupported after wipe(); internal where OpenSSL refuses.
    Result<void> seal(const FrozenIdentity& identity, std::span<const std::byte> plain,
                      std::span<std::byte> sealed) const;
    /// The reverse. Error: notSupported after wipe(); systemError where `sealed` is not what seal() made for
    /// this identity; `plain` is zeros then. REQUIRES: as for seal().
    Result<void> open(const FrozenIdentity& identity, std::span<const std::byte> sealed,
                      std::span<std::byte> plain) const;
    /// Overwrites the key, as soon as the records that are being worked on right now (microseconds) are done.
    void wipe();
    [[nodiscard]] bool wiped() const { return wiped_.load(std::memory_order_acquire); }
    [[nodiscard]] const FrozenKey& key() const { return key_; }

  private:
    FrozenCipher(FrozenKey key, evp_cipher_st* algorithm) : key_(std::move(key)), algorithm_(algorithm) {}

    FrozenKey key_;
    evp_cipher_st* algorithm_;
    std::atomic<bool> wiped_{false};
    mutable std::shared_mutex keyInUse_;  // shared: the key is being used; exclusive: it is being wiped
};

/// The error of everything that comes after the kill switch.
tl::unexpected<Error> failSwitchedOff();

}  // namespace thermocline::memory
