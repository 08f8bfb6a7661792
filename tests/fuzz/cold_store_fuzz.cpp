// SPDX-License-Identifier: Apache-2.0

// A cold store whose file was damaged, and slots that it never gave out: a page comes back as it was put, or
// is refused. The first byte chooses content, algorithm and how many pages; each three bytes after it damage
// the file: where, relative to a slot, and with what; each input ends with a slot that is made up.

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <optional>
#include <string>

#include "memory/cold_store.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace thermocline::memory;
using Page = std::array<std::byte, pageBytes>;

struct Store {
    std::string path = "/dev/shm/thermocline-fuzz-" + std::to_string(::getpid());
    std::unique_ptr<ColdStore> store;
    int file = -1;
    PageCodec codec;

    Store() {
        store = std::move(ColdStore::create(path, 64U << 20).value());
        file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
        ::unlink(path.c_str());  // whatever ends this process, no file stays
        THERMOCLINE_HOLDS(file >= 0);
    }
};

Page content(std::uint64_t seed, std::uint64_t noise) {
    Page page{};
    std::uint64_t state = seed | 1;
    for (std::size_t i = 0; i < page.size(); ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        page[i] = static_cast<std::byte>(i % 64 < noise ? state >> 56 : i / 64);
    }
    return page;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Store stored;
    thermocline::fuzz::Input input(data, size);
    const auto choice = input.number(1);
    const auto algorithm = (choice & 1) != 0 ? Algorithm::lz4 : Algorithm::zstd;
    const PageNumber number = choice >> 1;
    const auto page = content(choice, choice >> 3);
    const auto compressed = stored.codec.compress(page, algorithm);
    if (compressed.empty()) return 0;
    const auto slot = stored.store->put(number, ContentHash::of(number, page), compressed, algorithm).value();

    Page into;
    THERMOCLINE_HOLDS(stored.store->get(number, slot, stored.codec, into) && into == page);
    THERMOCLINE_HOLDS(!stored.store->get(number + 1, slot, stored.codec, into));
    bool damaged = false;
    for (int i = 0; i < 8 && !input.empty(); ++i) {
        const auto at = static_cast<off_t>(slot.offset() + input.number(2) % slot.bytes);
        char before = 0;
        const char after = static_cast<char>(input.number(1));
        THERMOCLINE_HOLDS(::pread(stored.file, &before, 1, at) == 1 &&
                          ::pwrite(stored.file, &after, 1, at) == 1);
        damaged = damaged || before != after;
    }
    const bool taken = stored.store->get(number, slot, stored.codec, into).has_value();
    THERMOCLINE_HOLDS(!taken || into == page);
    THERMOCLINE_HOLDS(taken || damaged);
    // As a page map may hold it: 36 bits of granule, 13 of length.
    const Slot made{input.number(5) & ((std::uint64_t{1} << 36) - 1),
                    static_cast<std::uint32_t>(input.number(2) & ((1U << 13) - 1))};
    if (stored.store->get(number, made, stored.codec, into)) THERMOCLINE_HOLDS(into == page);
    stored.store->release(slot);
    return 0;
}
