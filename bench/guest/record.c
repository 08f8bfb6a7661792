// SPDX-License-Identifier: Apache-2.0
#include "record.h"

#include <stdio.h>
#include <string.h>

enum { WORDS = 64, WORD_BYTES = 8, PARTS = RECORD_BYTES / WORD_BYTES };

static char words[WORDS][WORD_BYTES + 1];

uint64_t mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

static void make_words(void) {
    if (words[0][0]) return;
    for (uint64_t i = 0; i < WORDS; i++) {
        uint64_t letters = mix64(i);
        for (int at = 0; at < WORD_BYTES - 1; at++, letters /= 26)
            words[i][at] = (char)('a' + letters % 26);
        words[i][WORD_BYTES - 1] = ' ';
    }
}

// Part 0 and 1 name key and version; of the others every fourth is a number in hexadecimal, the rest are
// words: about half of it compresses away.
static void write_part(char* to, uint64_t key, uint32_t version, unsigned part) {
    static const char digits[] = "0123456789abcdef";
    uint64_t value = part == 0 ? key : mix64(key * PARTS + part + ((uint64_t)version << 40));
    if (part > 1 && part % 4) {
        memcpy(to, words[value % WORDS], WORD_BYTES);
        return;
    }
    if (part == 1) value = version;
    for (int at = WORD_BYTES - 1; at >= 0; at--, value >>= 4)
        to[at] = digits[value & 15];
}

void record_write(char to[RECORD_BYTES], uint64_t key, uint32_t version) {
    make_words();
    for (unsigned part = 0; part < PARTS; part++)
        write_part(to + part * WORD_BYTES, key, version, part);
}

int record_is(const char* found, size_t length, uint64_t key, uint32_t version) {
    make_words();
    if (length != RECORD_BYTES) return 0;
    char part[WORD_BYTES];
    for (unsigned i = 0; i < PARTS; i = i < 2 || i + 8 < PARTS ? i + (i < 2 ? 1 : 8) : PARTS) {
        write_part(part, key, version, i);
        if (memcmp(part, found + i * WORD_BYTES, WORD_BYTES)) return 0;
    }
    write_part(part, key, version, PARTS - 1);
    return !memcmp(part, found + (PARTS - 1) * WORD_BYTES, WORD_BYTES);
}
