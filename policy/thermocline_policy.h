/* SPDX-License-Identifier: Apache-2.0 */
#ifndef THERMOCLINE_POLICY_H
#define THERMOCLINE_POLICY_H

/*
 * The interface between a Thermocline manager and a policy: a shared object that decides which memory of one
 * VM goes first. Plain C11; policy.hpp wraps it for C++; docs/writing-a-policy.md explains it with an
 * example.
 *
 * How much is taken is the operator's to say (the limit, the stall that the proactive policy may cost); which
 * memory it is, is the policy's. A request is a hint: the engine carries it out, or not, and meets the limit
 * by itself where hints do not.
 *
 * Units   A page is 4096 bytes, a block 512 pages (2 MiB, a huge page). Both are numbered from 0 in the order
 * of guest RAM; the numbers never change. A block at an end of a range may be partly unused. Time is in
 *         milliseconds, sizes in bytes.
 * Threads Every function of the policy is called on one thread, which is its own: never the thread that
 * serves faults. Services may be called from any thread, also between calls. Errors  A function that returns
 * anything but 0, throws, or has not returned after two seconds is the last one that was called: the policy
 * is switched off, with a message, and the built-in one takes over. So is a policy that asks for what cannot
 * be (THERMOCLINE_INVALID) more than 32 times.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes with every change that an existing policy would notice; others add members at the ends of structs.
 */
#define THERMOCLINE_POLICY_ABI 1u

#define THERMOCLINE_POLICY_PAGE_BYTES 4096u
#define THERMOCLINE_POLICY_BLOCK_PAGES 512u
#define THERMOCLINE_POLICY_MOST_RANGES 4096u
#define THERMOCLINE_POLICY_TIMERS 8u

/* What services return. */
enum thermocline_policy_result {
    THERMOCLINE_OK = 0,
    THERMOCLINE_INVALID = -1,     /* out of range, or a null pointer: a mistake of the policy, and counted */
    THERMOCLINE_UNAVAILABLE = -2, /* not now: the VM's memory is not managed, or the page is not in memory */
    THERMOCLINE_OFF = -3          /* the policy has been switched off, or the VM is being left */
};

/* Where a page is. */
enum thermocline_page_state {
    THERMOCLINE_PAGE_ABSENT = 0,   /* never touched, or given back by the guest */
    THERMOCLINE_PAGE_RESIDENT = 1, /* in guest RAM */
    THERMOCLINE_PAGE_STAGED = 2,   /* moved aside, unchanged: a touch brings it back in microseconds */
    THERMOCLINE_PAGE_COLD = 3,     /* compressed in the store */
    THERMOCLINE_PAGE_FROZEN = 4    /* encrypted in the file tier: on a disk */
};

struct thermocline_block_range {
    uint64_t first;
    uint64_t count;
};

/* How many pages of a block are in which state, true a moment ago. */
struct thermocline_block_state {
    uint16_t absent;
    uint16_t resident;
    uint16_t staged;
    uint16_t cold;
    uint16_t frozen;
};

struct thermocline_policy_statistics {
    uint64_t blocks;         /* of the VM: numbers are below */
    uint64_t memory_bytes;   /* guest RAM */
    uint64_t limit_bytes;    /* the hard limit; 0 = none */
    uint64_t used_bytes;     /* what the limit bounds */
    uint64_t resident_bytes; /* of it, in guest RAM */
    uint64_t staged_bytes;   /* of it, moved aside */
    uint64_t cold_bytes;     /* guest memory that is in the store ... */
    uint64_t store_bytes;    /* ... and the memory that this takes */
    uint64_t frozen_bytes;   /* guest memory that is in the file tier */
    uint64_t faults;         /* served so far */
    uint64_t stall_ns;       /* time so far in which at least one fault was being served */
    uint64_t time_ms;        /* a clock that never jumps */
    uint64_t events_dropped; /* of this policy: it was too slow for them */
    uint64_t blocks_advised; /* blocks moved because this policy asked for it */
    double
        proactive_stall; /* the share of time that taking memory without need may cost; 0 = none is taken */
};

struct thermocline_policy_option {
    const char* key;
    const char* value;
};

typedef struct thermocline_policy_context thermocline_policy_context;

/* What a policy may ask. Valid from create() until destroy() returns, and harmless ever after. */
struct thermocline_policy_services {
    uint32_t abi;
    uint32_t size; /* of this struct */

    /* "Take these next, in this order": the block is moved aside, and what the guest does not touch there
       goes to the store. Replaces the former list; an empty list withdraws it. Whenever memory is to be
       taken, the engine takes from the front of the list; where that is empty, the built-in clock decides. At
       most THERMOCLINE_POLICY_MOST_RANGES ranges; the array is copied. */
    int (*stage)(thermocline_policy_context*, const struct thermocline_block_range*, size_t count);
    /* Likewise, but straight to the store, before what stage() lists. */
    int (*evict)(thermocline_policy_context*, const struct thermocline_block_range*, size_t count);
    /* "Bring these back", as far as there is room; what has none is dropped from the list. */
    int (*bring_back)(thermocline_policy_context*, const struct thermocline_block_range*, size_t count);
    /* "Leave these alone" for so long: the built-in clock passes them over as long as it finds others. 0 = no
       longer. Brings nothing back. */
    int (*keep)(thermocline_policy_context*, struct thermocline_block_range, uint32_t milliseconds);
    /* tick(timer) every so many milliseconds, from 10 on; 0 = no more. Timers: 0 to
       THERMOCLINE_POLICY_TIMERS - 1. None runs at the start. */
    int (*set_timer)(thermocline_policy_context*, uint32_t timer, uint32_t milliseconds);

    /* One entry for each block of the range, or page (enum thermocline_page_state).
       THERMOCLINE_UNAVAILABLE while there is neither limit nor proactive policy: the guest is left alone. */
    int (*query_blocks)(thermocline_policy_context*, struct thermocline_block_range,
                        struct thermocline_block_state* into);
    int (*query_pages)(thermocline_policy_context*, uint64_t first_page, uint64_t count, uint8_t* into);
    /* Bytes of one page of the guest, without bringing it back: THERMOCLINE_UNAVAILABLE where it is not in
       guest RAM. offset + bytes is at most a page. */
    int (*read)(thermocline_policy_context*, uint64_t page, uint32_t offset, uint32_t bytes, void* into);
    /* Fills in as many bytes of the struct as the caller knows of. */
    int (*statistics)(thermocline_policy_context*, struct thermocline_policy_statistics* into, size_t bytes);
    /* One line in the manager's log; at most 200 bytes of it, and 60 lines a minute. */
    void (*log)(thermocline_policy_context*, const char* text);
};

/* What a policy is. Members may be null where it has nothing to say, except name and create. Events arrive in
   batches, about 20 ms late, and are dropped (and counted) where a policy is too slow for them. */
struct thermocline_policy {
    uint32_t abi;  /* THERMOCLINE_POLICY_ABI */
    uint32_t size; /* of this struct */
    const char* name;

    /* Starts the policy for one VM. `services` and `context` stay valid; options do not. *self is handed to
       every other function. Not 0: the options are wrong, or it cannot work here; destroy() is not called. */
    int (*create)(const struct thermocline_policy_services* services, thermocline_policy_context* context,
                  const struct thermocline_policy_option* options, size_t option_count, void** self);
    /* The VM is being left. Not called for a policy that was switched off. */
    void (*destroy)(void* self);

    /* The guest touched `page`, which was in the store (THERMOCLINE_PAGE_COLD), in the file tier
       (THERMOCLINE_PAGE_FROZEN) or nowhere (THERMOCLINE_PAGE_ABSENT): it waited for it. */
    int (*fault)(void* self, uint64_t page, uint32_t state_before);
    /* The guest touched `page` while it was staged: it is in use. All of a huge page comes back with one
     * touch. */
    int (*touched)(void* self, uint64_t page);
    /* Pages of `block` went to the store. */
    int (*gone_cold)(void* self, uint64_t block);
    /* Limit or proactive policy changed; also called once after create(). */
    int (*limit_changed)(void* self, uint64_t limit_bytes, double proactive_stall);
    int (*tick)(void* self, uint32_t timer);
};

/* The one symbol that a policy exports. */
#define THERMOCLINE_POLICY_SYMBOL "thermocline_policy_entry"
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
extern const struct thermocline_policy thermocline_policy_entry;

#ifdef __cplusplus
}
#endif

#endif
