/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The control page that the manager and one agent thread share. The agent is dumb on purpose: it holds no
 * state, decides nothing and only makes the calls that Linux accepts from nobody but the VM's own process.
 * Included by C (the agent) and C++ (the manager). All sizes in bytes. */

#include <stdint.h>

#define THERMOCLINE_PAGE_BYTES 4096
#define THERMOCLINE_WORDS_PER_BLOCK 8 /* 512 pages of 4 KiB in a 2 MiB block, one bit each */
#define THERMOCLINE_MAX_OPERATIONS 32
#define THERMOCLINE_LANE_BYTES 8192

enum thermocline_operation_kind {
    /* UFFDIO_MOVE of the pages whose bits are set in `want`, each from source + 4096 * bit to destination +
     * 4096 * bit; sets the same bits in `done` for those that moved and goes on past those that do not
     * (pinned, absent). */
    THERMOCLINE_MOVE_PAGES = 1,
    /* UFFDIO_MOVE of one whole 2 MiB huge page: everything or nothing. */
    THERMOCLINE_MOVE_HUGE = 2,
    /* madvise(destination, length, advice = source). */
    THERMOCLINE_ADVISE = 3,
    /* Writes one zero byte at `destination`, so that the kernel puts a fresh (huge, where it can) page there.
     */
    THERMOCLINE_POPULATE = 4,
    /* Ends the agent thread; answered before it goes. */
    THERMOCLINE_EXIT = 5,
    /* madvise(advice = source) of the pages whose bits are set in `want`, at destination + 4096 * bit, run by
     * run; sets the same bits in `done` for the runs that succeeded and goes on past those that did not. */
    THERMOCLINE_ADVISE_PAGES = 6,
    /* Is a file open with O_DIRECT under a number below `length`? Sets error to -EBUSY where there is. */
    THERMOCLINE_FIND_DIRECT = 7,
};

struct thermocline_operation {
    uint32_t kind;
    int32_t descriptor; /* the userfaultfd that the destination is registered with, a number in the VM's
                           process */
    uint64_t destination;
    uint64_t source;
    uint64_t length;
    int64_t error; /* out: 0, or -errno of the last failure */
    uint64_t want[THERMOCLINE_WORDS_PER_BLOCK];
    uint64_t done[THERMOCLINE_WORDS_PER_BLOCK]; /* out */
};

/* The manager fills the operations, then adds 1 to `request` and wakes it (futex); the agent runs them in
 * order, stopping at the first THERMOCLINE_MOVE_HUGE or THERMOCLINE_POPULATE that fails, then sets `reply` =
 * `request` and wakes that. */
struct thermocline_lane {
    uint32_t request;
    uint32_t reply;
    uint32_t operation_count;
    uint32_t completed; /* out: how many operations were run */
    struct thermocline_operation operations[THERMOCLINE_MAX_OPERATIONS];
};

#ifdef __cplusplus
static_assert(sizeof(thermocline_lane) <= THERMOCLINE_LANE_BYTES);
#else
_Static_assert(sizeof(struct thermocline_lane) <= THERMOCLINE_LANE_BYTES, "a lane fits its pages");
#endif
