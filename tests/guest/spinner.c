// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "spinner.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

static struct {
    struct regions* regions;
    unsigned threads, write_percent;
    atomic_int stop;
    pthread_mutex_t lock;  // guards result
    struct spin_result result;
    pthread_t thread[MAX_SPINNERS];
} spin = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void add(const struct spin_result* part) {
    pthread_mutex_lock(&spin.lock);
    if (part->wrong && !spin.result.wrong) spin.result.first = part->first;
    spin.result.checked += part->checked;
    spin.result.written += part->written;
    spin.result.wrong += part->wrong;
    if (part->worst_page_microseconds > spin.result.worst_page_microseconds)
        spin.result.worst_page_microseconds = part->worst_page_microseconds;
    pthread_mutex_unlock(&spin.lock);
}

static void visit(uint64_t index, uint64_t random, struct spin_result* part) {
    uint64_t page, begin = microseconds();
    struct region* region = regions_find(spin.regions, index, &page);
    struct mismatch mismatch;
    if (!region_check(region, page, &mismatch)) {
        mismatch.region = (unsigned)(region - spin.regions->list);
        if (!part->wrong++) part->first = mismatch;
    }
    part->checked++;
    if (random % 100 < spin.write_percent) {
        region->generation[page]++;
        region_write(region, page);
        part->written++;
    }
    uint64_t took = microseconds() - begin;
    if (took > part->worst_page_microseconds) part->worst_page_microseconds = took;
}

static void* work(void* argument) {
    unsigned self = (unsigned)(uintptr_t)argument;
    uint64_t total = regions_pages(spin.regions), own = total / spin.threads, random = mix64(self + 1);
    // Every other run of pages is sequential, the rest is random: both kinds of fault come up.
    for (uint64_t step = 0; !atomic_load_explicit(&spin.stop, memory_order_relaxed) && own;) {
        struct spin_result part = {0};
        uint64_t at = (random = mix64(random)) % own;
        for (unsigned i = 0; i < 64; i++, step++) {
            random = mix64(random);
            uint64_t slot = step & 64 ? random % own : (at + i) % own;
            visit(slot * spin.threads + self, random >> 32, &part);
        }
        add(&part);
    }
    return NULL;
}

int spin_start(struct regions* regions, unsigned threads, unsigned write_percent) {
    if (spin.threads) return EBUSY;
    if (threads == 0 || threads > MAX_SPINNERS || regions_pages(regions) < threads) return EINVAL;
    spin.regions = regions;
    spin.threads = threads;
    spin.write_percent = write_percent;
    memset(&spin.result, 0, sizeof spin.result);
    atomic_store(&spin.stop, 0);
    for (unsigned i = 0; i < threads; i++) {
        int error = pthread_create(&spin.thread[i], NULL, work, (void*)(uintptr_t)i);
        if (error) {
            spin.threads = i;
            spin_stop();
            return error;
        }
    }
    return 0;
}

int spin_running(void) {
    return spin.threads != 0;
}

struct spin_result spin_so_far(void) {
    pthread_mutex_lock(&spin.lock);
    struct spin_result result = spin.result;
    pthread_mutex_unlock(&spin.lock);
    return result;
}

struct spin_result spin_stop(void) {
    atomic_store(&spin.stop, 1);
    for (unsigned i = 0; i < spin.threads; i++)
        pthread_join(spin.thread[i], NULL);
    spin.threads = 0;
    return spin_so_far();
}
