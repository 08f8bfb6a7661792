// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RUN_PAGES = 16 };

static int read_run(int device, uint8_t* to, uint64_t page) {
    for (size_t done = 0; done < RUN_PAGES * PAGE_BYTES;) {
        ssize_t count =
            pread(device, to + done, RUN_PAGES * PAGE_BYTES - done, (off_t)(page * PAGE_BYTES + done));
        if (count <= 0) return count ? errno : EIO;
        done += (size_t)count;
    }
    return 0;
}

static void check_run(const struct region* region, uint64_t page, struct disk_result* result) {
    for (unsigned i = 0; i < RUN_PAGES; i++) {
        struct mismatch mismatch;
        if (!region_check(region, page + i, &mismatch) && !result->wrong++) result->first = mismatch;
        result->read++;
    }
}

struct disk_result disk_read(const char* device, struct pattern pattern, unsigned passes) {
    struct disk_result result = {0};
    int fd = open(device, O_RDONLY | O_DIRECT | O_CLOEXEC);
    off_t bytes = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    struct regions own = {0};
    struct region* region = bytes > 0 ? region_add(&own, (uint64_t)bytes, pattern) : NULL;
    if (!region) result.error = errno ? errno : EINVAL;
    for (unsigned pass = 0; pass < passes && !result.error; pass++) {
        for (uint64_t page = 0; page + RUN_PAGES <= region->pages && !result.error; page += RUN_PAGES) {
            uint8_t* run = region->base + page * PAGE_BYTES;
            memset(run, (int)(0x5a ^ pass), RUN_PAGES * PAGE_BYTES);
            result.error = read_run(fd, run, page);
            if (!result.error) check_run(region, page, &result);
        }
    }
    if (region) region_give_back(&own, region->pages * PAGE_BYTES);
    if (fd >= 0) close(fd);
    return result;
}
