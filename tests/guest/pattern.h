// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a page of the workload must hold: a pure function of (seed, page number, generation), so that every
// byte can be recomputed at any time. Pages look like a real guest's to a compressor: the given share of each
// 512-byte run is noise, the rest repeats; one page in 32 is all zero and two in 32 repeat one word.
// No state: safe from any thread.

#include <stdint.h>

enum { PAGE_BYTES = 4096, PAGE_WORDS = PAGE_BYTES / 8 };

struct pattern {
    uint64_t seed;
    unsigned random_percent;  // 0..100
};

void pattern_write(const struct pattern* pattern, uint64_t page, uint32_t generation, uint64_t* words);

// Index of the first byte of `words` that is not as it must be, or -1.
int pattern_check(const struct pattern* pattern, uint64_t page, uint32_t generation, const uint64_t* words);

uint8_t pattern_byte(const struct pattern* pattern, uint64_t page, uint32_t generation, unsigned offset);

// splitmix64 (Steele, Lea, Flood 2014): also the workload's source of random page numbers.
static inline uint64_t mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
