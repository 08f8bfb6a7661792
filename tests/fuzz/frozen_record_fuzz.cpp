// SPDX-License-Identifier: Apache-2.0

// Records of the file tier that were changed on the disk, or belong elsewhere: opened as they were sealed, or
// refused with zeros in the place of bytes.

#include <algorithm>
#include <vector>

#include "memory/frozen_cipher.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace thermocline::memory;
    static const auto cipher = std::move(FrozenCipher::create(FrozenKey::draw().value()).value());
    static std::uint64_t serial = 0;  // no nonce comes twice
    thermocline::fuzz::Input input(data, size);
    FrozenIdentity identity{input.number(4), input.number(4), ++serial};
    const auto changes = input.number(1) % 8;
    const auto moved = input.number(1) % 8;
    std::vector<std::uint64_t> change;
    for (std::uint64_t i = 0; i < changes; ++i)
        change.push_back(input.number(3));
    const auto text = input.rest().substr(0, pageBytes);
    std::vector<std::byte> plain(std::max<std::size_t>(text.size(), 1));
    std::transform(text.begin(), text.end(), plain.begin(), [](char c) { return static_cast<std::byte>(c); });
    std::vector<std::byte> sealed(plain.size() + FrozenCipher::tagBytes);
    THERMOCLINE_HOLDS(cipher->seal(identity, plain, sealed));
    const auto before = sealed;
    for (const auto one : change)
        sealed[(one >> 8) % sealed.size()] = static_cast<std::byte>(one & 0xff);
    const auto sealedFor = identity;
    if (moved == 1) ++identity.page;
    if (moved == 2) ++identity.granule;
    if (moved == 3) --identity.serial;
    const bool same = sealed == before && moved != 1 && moved != 2 && moved != 3;
    std::vector<std::byte> opened(plain.size());
    THERMOCLINE_HOLDS(cipher->open(identity, sealed, opened).has_value() == same);
    THERMOCLINE_HOLDS(same ? opened == plain : std::all_of(opened.begin(), opened.end(), [](std::byte b) {
        return b == std::byte{0};
    }));
    THERMOCLINE_HOLDS(cipher->open(sealedFor, before, opened) && opened == plain);
    return 0;
}
