// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "region.h"

#include <errno.h>
#include <sys/mman.h>

static void* map(uint64_t bytes) {
    void* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static uint64_t generation_bytes(uint64_t pages) {
    return (pages * sizeof(uint32_t) + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

struct region* region_add(struct regions* regions, uint64_t bytes, struct pattern pattern) {
    uint64_t pages = bytes / PAGE_BYTES;
    if (regions->count == MAX_REGIONS || pages == 0) {
        errno = pages ? ENOSPC : EINVAL;
        return NULL;
    }
    struct region* region = &regions->list[regions->count];
    *region = (struct region){.pages = pages, .pattern = pattern};
    region->base = map(pages * PAGE_BYTES);
    region->generation = region->base ? map(generation_bytes(pages)) : NULL;
    if (!region->generation) {
        if (region->base) munmap(region->base, pages * PAGE_BYTES);
        return NULL;
    }
    regions->count++;
    for (uint64_t page = 0; page < pages; page++)
        region_write(region, page);
    return region;
}

void region_write(struct region* region, uint64_t page) {
    pattern_write(&region->pattern, page, region->generation[page], region_words(region, page));
}

int region_check(const struct region* region, uint64_t page, struct mismatch* mismatch) {
    const uint64_t* words = region_words(region, page);
    uint32_t generation = region->generation[page];
    int offset = pattern_check(&region->pattern, page, generation, words);
    if (offset < 0) return 1;
    *mismatch = (struct mismatch){
        .page = page,
        .offset = (unsigned)offset,
        .generation = generation,
        .expected = pattern_byte(&region->pattern, page, generation, (unsigned)offset),
        .got = ((const uint8_t*)words)[offset],
    };
    return 0;
}

int region_give_back(struct regions* regions, uint64_t bytes) {
    uint64_t pages = bytes / PAGE_BYTES;
    struct region* region = regions->count ? &regions->list[regions->count - 1] : NULL;
    if (!region || pages == 0 || pages > region->pages) {
        errno = EINVAL;
        return -1;
    }
    uint64_t keep = region->pages - pages;
    if (munmap(region->base + keep * PAGE_BYTES, pages * PAGE_BYTES)) return -1;
    if (keep == 0) {
        if (munmap(region->generation, generation_bytes(region->pages))) return -1;
        regions->count--;
    }
    region->pages = keep;
    return 0;
}

uint64_t regions_pages(const struct regions* regions) {
    uint64_t pages = 0;
    for (unsigned i = 0; i < regions->count; i++)
        pages += regions->list[i].pages;
    return pages;
}

struct region* regions_find(struct regions* regions, uint64_t index, uint64_t* page) {
    struct region* region = regions->list;
    while (index >= region->pages)
        index -= region++->pages;
    *page = index;
    return region;
}
