// SPDX-License-Identifier: Apache-2.0
#include "memory/page_codec.h"

#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

namespace thermocline::memory {

void PageCodec::Free::operator()(ZSTD_CCtx_s* context) const {
    ZSTD_freeCCtx(context);
}
void PageCodec::Free::operator()(ZSTD_DCtx_s* context) const {
    ZSTD_freeDCtx(context);
}

void PageCodec::Free::operator()(LZ4_stream_u* state) const {
    LZ4_freeStream(state);
}

PageCodec::PageCodec()
    : compressor_(ZSTD_createCCtx()), decompressor_(ZSTD_createDCtx()), lz4State_(LZ4_createStream()) {
    if (!compressor_ || !decompressor_ || !lz4State_) throw std::bad_alloc();
    ZSTD_CCtx_setParameter(compressor_.get(), ZSTD_c_compressionLevel, -1);
    ZSTD_CCtx_setParameter(compressor_.get(), ZSTD_c_contentSizeFlag,
                           0);  // always 4096; the store has its own checksum
}

PageCodec::~PageCodec() = default;

std::optional<std::uint32_t> PageCodec::sameFilled(PageBytes page) {
    // A page is one word repeated exactly when it equals itself shifted by that word.
    if (std::memcmp(page.data(), page.data() + sizeof(std::uint32_t), pageBytes - sizeof(std::uint32_t)) != 0)
        return std::nullopt;
    std::uint32_t word = 0;
    std::memcpy(&word, page.data(), sizeof word);
    return word;
}

void PageCodec::fill(MutablePageBytes page, std::uint32_t word) {
    std::array<std::uint32_t, pageBytes / sizeof(std::uint32_t)> words;
    words.fill(word);
    std::memcpy(page.data(), words.data(), pageBytes);
}

std::span<const std::byte> PageCodec::compress(PageBytes page, Algorithm algorithm) {
    if (algorithm == Algorithm::lz4) {
        const int size = LZ4_compress_fast_extState(
            lz4State_.get(), reinterpret_cast<const char*>(page.data()),
            reinterpret_cast<char*>(buffer_.data()), pageBytes, static_cast<int>(buffer_.size()), 1);
        return {buffer_.data(), static_cast<std::size_t>(size)};  // 0: it did not fit
    }
    const auto size =
        ZSTD_compress2(compressor_.get(), buffer_.data(), buffer_.size(), page.data(), page.size());
    if (ZSTD_isError(size) != 0) return {};  // it did not fit
    return {buffer_.data(), size};
}

bool PageCodec::decompress(std::span<const std::byte> compressed, Algorithm algorithm,
                           MutablePageBytes page) {
    if (compressed.size() == pageBytes) {
        std::copy(compressed.begin(), compressed.end(), page.begin());
        return true;
    }
    if (algorithm == Algorithm::lz4)
        return LZ4_decompress_safe(reinterpret_cast<const char*>(compressed.data()),
                                   reinterpret_cast<char*>(page.data()), static_cast<int>(compressed.size()),
                                   pageBytes) == pageBytes;
    return ZSTD_decompressDCtx(decompressor_.get(), page.data(), page.size(), compressed.data(),
                               compressed.size()) == pageBytes;
}

}  // namespace thermocline::memory
