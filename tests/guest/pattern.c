// SPDX-License-Identifier: Apache-2.0
#include "pattern.h"

struct page_kind {
    uint64_t key;
    enum { ZERO, REPEATED, MIXED } kind;
    unsigned noise_words;  // of each run of 64
};

static struct page_kind kind_of(const struct pattern* pattern, uint64_t page, uint32_t generation) {
    struct page_kind kind = {.key = mix64(mix64(pattern->seed ^ (page << 20)) + generation)};
    unsigned choice = kind.key & 31;
    kind.kind = choice == 0 ? ZERO : choice <= 2 ? REPEATED : MIXED;
    kind.noise_words = pattern->random_percent * 64 / 100;
    return kind;
}

static inline uint64_t word_of(const struct page_kind* kind, uint64_t page, unsigned index) {
    if (kind->kind == ZERO) return 0;
    if (kind->kind == REPEATED) return kind->key;
    if ((index & 63) < kind->noise_words) return mix64(kind->key + index);
    return (page << 16 | (index & 7)) ^ (kind->key & 0xff00);
}

void pattern_write(const struct pattern* pattern, uint64_t page, uint32_t generation, uint64_t* words) {
    struct page_kind kind = kind_of(pattern, page, generation);
    for (unsigned i = 0; i < PAGE_WORDS; i++)
        words[i] = word_of(&kind, page, i);
}

int pattern_check(const struct pattern* pattern, uint64_t page, uint32_t generation, const uint64_t* words) {
    struct page_kind kind = kind_of(pattern, page, generation);
    for (unsigned i = 0; i < PAGE_WORDS; i++) {
        uint64_t difference = words[i] ^ word_of(&kind, page, i);
        if (difference) return (int)(i * 8 + (unsigned)__builtin_ctzll(difference) / 8);
    }
    return -1;
}

uint8_t pattern_byte(const struct pattern* pattern, uint64_t page, uint32_t generation, unsigned offset) {
    struct page_kind kind = kind_of(pattern, page, generation);
    return (uint8_t)(word_of(&kind, page, offset / 8) >> (offset % 8 * 8));
}
