// SPDX-License-Identifier: Apache-2.0
#pragma once

// The memory under test: regions of anonymous memory, each page at a known generation. Not thread-safe,
// except that several threads may check and bump different pages of the same region.

#include <stddef.h>
#include <stdint.h>

#include "pattern.h"

enum { MAX_REGIONS = 16 };

struct region {
    uint8_t* base;
    uint64_t pages;
    uint32_t* generation;  // per page; lives in guest memory as well, so it is under test too
    struct pattern pattern;
};

// The first byte found to be wrong.
struct mismatch {
    unsigned region;
    uint64_t page;
    unsigned offset;
    uint32_t generation;
    uint8_t expected, got;
};

struct regions {
    struct region list[MAX_REGIONS];
    unsigned count;
};

// NULL and errno where memory or the table is short.
struct region* region_add(struct regions* regions, uint64_t bytes, struct pattern pattern);
void region_write(struct region* region, uint64_t page);
// 1 where the page is as it must be; else 0 with `mismatch` filled in but for the region's number.
int region_check(const struct region* region, uint64_t page, struct mismatch* mismatch);
// Gives the last `bytes` of the youngest region back to the kernel (munmap), 0 on success.
int region_give_back(struct regions* regions, uint64_t bytes);
uint64_t regions_pages(const struct regions* regions);
// Finds the region and page of the `index`-th page of all regions. REQUIRES: index < regions_pages().
struct region* regions_find(struct regions* regions, uint64_t index, uint64_t* page);

static inline uint64_t* region_words(const struct region* region, uint64_t page) {
    return (uint64_t*)(region->base + page * PAGE_BYTES);
}
