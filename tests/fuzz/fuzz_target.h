// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the fuzz targets share. Each target is one file with an LLVMFuzzerTestOneInput: libFuzzer's main()
// feeds it with inputs that it makes up (preset fuzz), replay.cpp's with those of the corpus (./test).

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace thermocline::fuzz {

/// What must hold for every input; ends the process where it does not, as fuzzers expect.
#define THERMOCLINE_HOLDS(condition)                                                            \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            std::abort();                                                                       \
        }                                                                                       \
    } while (false)

/// Takes an input apart, from its start; zeros when it is used up.
class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}

    [[nodiscard]] bool empty() const { return rest_.empty(); }
    /// Little-endian, of `bytes` bytes.
    std::uint64_t number(std::size_t bytes) {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < bytes; ++i) {
            if (rest_.empty()) break;
            value |= std::uint64_t{rest_.front()} << (8 * i);
            rest_ = rest_.subspan(1);
        }
        return value;
    }
    /// Up to the next `separator`, which is dropped; or all that is left.
    std::string_view until(std::string_view separator) {
        const auto all = rest();
        const auto at = all.find(separator);
        const auto end = at == std::string_view::npos ? all.size() : at + separator.size();
        rest_ = rest_.subspan(end);
        return all.substr(0, at);
    }
    [[nodiscard]] std::string_view rest() const {
        return {reinterpret_cast<const char*>(rest_.data()), rest_.size()};
    }

  private:
    std::span<const std::uint8_t> rest_;
};

}  // namespace thermocline::fuzz
