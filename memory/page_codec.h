// SPDX-License-Identifier: Apache-2.0
#pragma once

// How one page becomes fewer bytes: recognised as one word repeated, or zstd level -1 (measured as the best
// ratio per time for 4 KiB pages of guests, docs/design.md). One codec per thread: not thread-safe.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "memory/page.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace thermocline::memory {

using PageBytes = std::span<const std::byte, pageBytes>;
using MutablePageBytes = std::span<std::byte, pageBytes>;

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
    std::span<const std::byte> compress(PageBytes page);
    /// False where `compressed` is not what compress() made.
    bool decompress(std::span<const std::byte> compressed, MutablePageBytes page);

  private:
    struct Free {
        void operator()(ZSTD_CCtx_s* context) const;
        void operator()(ZSTD_DCtx_s* context) const;
    };
    std::unique_ptr<ZSTD_CCtx_s, Free> compressor_;
    std::unique_ptr<ZSTD_DCtx_s, Free> decompressor_;
    std::array<std::byte, maxCompressedBytes> buffer_;
};

}  // namespace thermocline::memory
