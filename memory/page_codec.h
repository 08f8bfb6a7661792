// SPDX-License-Identifier: Apache-2.0
#pragma once

// How one page becomes fewer bytes: recognised as one word repeated, or compressed. Two algorithms, since two
// things can be scarce: zstd level -1 where memory is (the best ratio per time for 4 KiB pages of guests,
// docs/design.md), LZ4 where time is (a fifth of the time, a tenth more bytes). One codec per thread: not
// thread-safe.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "memory/page.h"

union LZ4_stream_u;
struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace thermocline::memory {

using PageBytes = std::span<const std::byte, pageBytes>;
using MutablePageBytes = std::span<std::byte, pageBytes>;

enum class Algorithm : std::uint8_t { zstd, lz4 };

class PageCodec {
  public:
    /// Pages that do not shrink to this are not worth a slot.
    static constexpr std::size_t maxCompressedBytes = pageBytes * 7 / 8;

    PageCodec();
    ~PageCodec();
    PageCodec(const PageCodec&) = delete;
    PageCodec& operator=(const PageCodec&) = delete;

    /// The word, where the whole page repeats it.
    static std::optional<std::uint32_t> sameFilled(PageBytes page);
    static void fill(MutablePageBytes page, std::uint32_t word);

    /// The compressed bytes, in a buffer that the next call reuses; empty where the page does not shrink
    /// enough.
    std::span<const std::byte> compress(PageBytes page, Algorithm algorithm);
    /// False where `compressed` is not what compress() made with that algorithm, nor a whole page as it is.
    bool decompress(std::span<const std::byte> compressed, Algorithm algorithm, MutablePageBytes page);

  private:
    struct Free {
        void operator()(LZ4_stream_u* state) const;
        void operator()(ZSTD_CCtx_s* context) const;
        void operator()(ZSTD_DCtx_s* context) const;
    };
    std::unique_ptr<ZSTD_CCtx_s, Free> compressor_;
    std::unique_ptr<ZSTD_DCtx_s, Free> decompressor_;
    std::unique_ptr<LZ4_stream_u, Free> lz4State_;
    std::array<std::byte, maxCompressedBytes> buffer_;
};

}  // namespace thermocline::memory
