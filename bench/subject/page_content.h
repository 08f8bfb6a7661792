// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a VM's pages look like to a compressor: a tenth same-filled, a tenth that hardly compresses, the rest
// text, kernel-like structures, machine code and sparse tables, in runs of a few pages of a kind. A pure
// function of the page's number; no two pages are alike but the same-filled ones. Plain functions,
// thread-safe.

#include <cstdint>
#include <span>

#include "bench/subject/access_batch.h"

namespace thermocline::bench {

using PageWords = std::span<std::uint64_t, pageBytes / 8>;

enum class PageKind { zero, oneWord, noise, text, structures, code, sparse };

/// splitmix64's finalizer: a well-mixed function of `x`.
std::uint64_t mix(std::uint64_t x);

PageKind kindOf(std::uint64_t page);

/// Writes the page, its tag included.
void fillPage(std::uint64_t page, PageWords words);

/// The tag of a page that was filled and not written since.
std::uint64_t firstTag(std::uint64_t page);

}  // namespace thermocline::bench
