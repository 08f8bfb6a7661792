// SPDX-License-Identifier: Apache-2.0
#pragma once

// Direct I/O from the guest's disk into memory under test: the device writes guest RAM behind the vCPUs'
// back. The disk holds the pattern of its seed at generation 0. Not thread-safe.

#include <stdint.h>

#include "region.h"

struct disk_result {
    uint64_t pages;
    uint64_t wrong;  // pages
    struct mismatch first;
    int error;  // errno of a failed transfer, 0
};

// Fills a buffer as large as the disk, then writes all of it.
struct disk_result disk_write(const char* device, struct pattern pattern);
// Reads `passes` times every page of the disk into one buffer of its size, a run of pages at a time, spoiling
// each run before the read and checking it after.
struct disk_result disk_read(const char* device, struct pattern pattern, unsigned passes);
