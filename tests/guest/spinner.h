// SPDX-License-Identifier: Apache-2.0
#pragma once

// Threads that check and rewrite pages without end, so that faults are always under way. Worker k owns the
// pages k, k + n, k + 2n ...: neighbours in one huge page are touched from different vCPUs at the same
// moment, and still no page has two writers. Start and stop from one thread.

#include <stdint.h>

#include "region.h"

enum { MAX_SPINNERS = 8 };

struct spin_result {
    uint64_t checked;                  // pages
    uint64_t written;                  // pages
    uint64_t wrong;                    // pages
    uint64_t worst_page_microseconds;  // longest time that one page took: the worst stall seen from inside
    struct mismatch first;             // valid where wrong > 0
};

// 0 or an errno. REQUIRES: not running; regions stay as they are until spin_stop().
int spin_start(struct regions* regions, unsigned threads, unsigned write_percent);
int spin_running(void);
// What has happened up to now; may be called while running.
struct spin_result spin_so_far(void);
struct spin_result spin_stop(void);
