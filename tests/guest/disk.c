// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { RUN_PAGES = 16 };

struct open_disk {
    int fd;
    struct regions regions;
    struct region* region;  // as large as the disk
};

static int open_disk(struct open_disk* disk, const char* device, struct pattern pattern) {
    *disk = (struct open_disk){.fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC)};
    if (disk->fd < 0) return errno;
    off_t bytes = lseek(disk->fd, 0, SEEK_END);
    if (bytes <= 0) return EINVAL;
    disk->region = region_add(&disk->regions, (uint64_t)bytes, pattern);
    return disk->region ? 0 : errno;
}

static void close_disk(struct open_disk* disk) {
    if (disk->region) region_give_back(&disk->regions, disk->region->pages * PAGE_BYTES);
    if (disk->fd >= 0) close(disk->fd);
}

static int transfer_run(const struct open_disk* disk, uint64_t page, int write) {
    uint8_t* memory = disk->region->base + page * PAGE_BYTES;
    for (size_t done = 0; done < RUN_PAGES * PAGE_BYTES;) {
        size_t left = RUN_PAGES * PAGE_BYTES - done;
        off_t at = (off_t)(page * PAGE_BYTES + done);
        ssize_t count =
            write ? pwrite(disk->fd, memory + done, left, at) : pread(disk->fd, memory + done, left, at);
        if (count <= 0) return count ? errno : EIO;
        done += (size_t)count;
    }
    return 0;
}

static void check_run(const struct region* region, uint64_t page, struct disk_result* result) {
    for (unsigned i = 0; i < RUN_PAGES; i++) {
        struct mismatch mismatch;
        if (!region_check(region, page + i, &mismatch) && !result->wrong++) result->first = mismatch;
    }
}

struct disk_result disk_write(const char* device, struct pattern pattern) {
    struct disk_result result = {0};
    struct open_disk disk;
    result.error = open_disk(&disk, device, pattern);
    for (uint64_t page = 0; !result.error && page + RUN_PAGES <= disk.region->pages; page += RUN_PAGES) {
        result.error = transfer_run(&disk, page, 1);
        result.pages += RUN_PAGES;
    }
    close_disk(&disk);
    return result;
}

struct disk_result disk_read(const char* device, struct pattern pattern, unsigned passes) {
    struct disk_result result = {0};
    struct open_disk disk;
    result.error = open_disk(&disk, device, pattern);
    for (unsigned pass = 0; pass < passes && !result.error; pass++) {
        for (uint64_t page = 0; !result.error && page + RUN_PAGES <= disk.region->pages; page += RUN_PAGES) {
            memset(disk.region->base + page * PAGE_BYTES, (int)(0x5a ^ pass), RUN_PAGES * PAGE_BYTES);
            result.error = transfer_run(&disk, page, 0);
            if (!result.error) check_run(disk.region, page, &result);
            result.pages += RUN_PAGES;
        }
    }
    close_disk(&disk);
    return result;
}
