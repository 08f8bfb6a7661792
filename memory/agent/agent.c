/* SPDX-License-Identifier: Apache-2.0 */

/* The code that runs as a thread inside the VM's process. Freestanding: no libc, no data, no relocations, one
 * read-only executable mapping; everything it knows comes in the control page. It makes six system calls,
 * futex, ioctl, madvise, fcntl, prctl and exit, and (by touching a page) page faults.
 *
 * Signals: the thread is created with every signal blocked, so none of the VM's handlers ever runs on it.
 * Trust: the control page belongs to the manager; whoever can write to it owns the VM's process already. */

#include "agent_protocol.h"

#define EAGAIN_RETRIES 64
#define PAGES_PER_BLOCK (THERMOCLINE_WORDS_PER_BLOCK * 64U)

enum { SYS_ioctl = 16, SYS_madvise = 28, SYS_exit = 60, SYS_fcntl = 72, SYS_prctl = 157, SYS_futex = 202 };
enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1, PR_SET_NAME = 15 };
enum { F_GETFL = 3, O_DIRECT = 040000 };
enum { EAGAIN = 11, EBUSY = 16 };

struct uffdio_move {
    uint64_t destination, source, length, mode;
    int64_t moved;
};
#define UFFDIO_MOVE 0xc028aa05UL

static inline long call(long number, long a, long b, long c, long d) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = 0;
    register long r9 __asm__("r9") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* Moves up to `length` bytes; returns how many bytes moved and leaves the failure, if any, in *error. */
static uint64_t move(int descriptor, uint64_t destination, uint64_t source, uint64_t length, int64_t* error) {
    uint64_t moved = 0;
    *error = 0;
    for (int again = 0; moved < length;) {
        struct uffdio_move request = {destination + moved, source + moved, length - moved, 0, 0};
        long result = call(SYS_ioctl, descriptor, (long)UFFDIO_MOVE, (long)&request, 0);
        if (request.moved > 0) moved += (uint64_t)request.moved;
        if (result == 0) continue;
        *error = result;
        /* EAGAIN: the address space is changing (an event waits for the manager) or the page is locked for a
         * moment. A few tries only: the manager may have to read that event before this can ever succeed. */
        if (result != -EAGAIN || ++again > EAGAIN_RETRIES) break;
    }
    if (moved == length) *error = 0;
    return moved;
}

static void none_done(struct thermocline_operation* operation) {
    for (int word = 0; word < THERMOCLINE_WORDS_PER_BLOCK; ++word)
        operation->done[word] = 0;
    operation->error = 0;
}

/* The first page from `first` on that is wanted, and where the run that it begins ends; both are
 * PAGES_PER_BLOCK where there is none. */
static unsigned next_run(const struct thermocline_operation* operation, unsigned first, unsigned* end) {
    while (first < PAGES_PER_BLOCK && !(operation->want[first / 64] >> (first % 64) & 1))
        ++first;
    for (*end = first; *end < PAGES_PER_BLOCK && (operation->want[*end / 64] >> (*end % 64) & 1);)
        ++*end;
    return first;
}

static void advise_pages(struct thermocline_operation* operation) {
    none_done(operation);
    unsigned end;
    for (unsigned first = 0; (first = next_run(operation, first, &end)) < PAGES_PER_BLOCK; first = end) {
        const long result =
            call(SYS_madvise, (long)(operation->destination + (uint64_t)first * THERMOCLINE_PAGE_BYTES),
                 (long)((uint64_t)(end - first) * THERMOCLINE_PAGE_BYTES), (long)operation->source, 0);
        if (result != 0) operation->error = result;
        for (unsigned page = first; result == 0 && page < end; ++page)
            operation->done[page / 64] |= 1UL << (page % 64);
    }
}

static void find_direct(struct thermocline_operation* operation) {
    operation->error = 0;
    for (uint64_t file = 0; file < operation->length && operation->error == 0; ++file) {
        const long flags = call(SYS_fcntl, (long)file, F_GETFL, 0, 0);
        if (flags >= 0 && (flags & O_DIRECT)) operation->error = -EBUSY;
    }
}

static void move_pages(struct thermocline_operation* operation) {
    none_done(operation);
    unsigned end;
    for (unsigned first = 0; (first = next_run(operation, first, &end)) < PAGES_PER_BLOCK;) {
        const uint64_t at = (uint64_t)first * THERMOCLINE_PAGE_BYTES;
        int64_t error;
        const uint64_t moved =
            move(operation->descriptor, operation->destination + at, operation->source + at,
                 (uint64_t)(end - first) * THERMOCLINE_PAGE_BYTES, &error);
        const unsigned stop = first + (unsigned)(moved / THERMOCLINE_PAGE_BYTES);
        for (; first < stop; ++first)
            operation->done[first / 64] |= 1UL << (first % 64);
        if (error) {
            operation->error = error;
            if (error == -EAGAIN) return; /* the rest would meet the same */
            ++first;                      /* this one stays where it is; go on behind it */
        }
    }
}

__attribute__((section(".text.start"), used)) void thermocline_agent(struct thermocline_lane* lane) {
    volatile struct thermocline_lane* shared = lane;
    /* On the stack and built by instructions: the agent has no data section. */
    volatile uint64_t name[2] = {0x6c636f6d72656874UL /* "thermocl" */, 0x656e69UL /* "ine" */};
    call(SYS_prctl, PR_SET_NAME, (long)name, 0, 0);
    for (uint32_t served = 0;;) {
        while (__atomic_load_n(&lane->request, __ATOMIC_ACQUIRE) == served)
            call(SYS_futex, (long)&lane->request, FUTEX_WAIT, (long)served, 0);
        served = __atomic_load_n(&lane->request, __ATOMIC_ACQUIRE);
        uint32_t count = shared->operation_count;
        if (count > THERMOCLINE_MAX_OPERATIONS) count = 0;
        int leave = 0;
        uint32_t completed = 0;
        for (; completed < count; ++completed) {
            struct thermocline_operation* operation = &lane->operations[completed];
            if (operation->kind == THERMOCLINE_MOVE_PAGES) {
                move_pages(operation);
            } else if (operation->kind == THERMOCLINE_MOVE_HUGE) {
                move(operation->descriptor, operation->destination, operation->source, operation->length,
                     &operation->error);
                if (operation->error) break;
            } else if (operation->kind == THERMOCLINE_ADVISE) {
                operation->error = call(SYS_madvise, (long)operation->destination, (long)operation->length,
                                        (long)operation->source, 0);
            } else if (operation->kind == THERMOCLINE_ADVISE_PAGES) {
                advise_pages(operation);
            } else if (operation->kind == THERMOCLINE_FIND_DIRECT) {
                find_direct(operation);
            } else if (operation->kind == THERMOCLINE_POPULATE) {
                *(volatile char*)operation->destination = 0;
                operation->error = 0;
            } else if (operation->kind == THERMOCLINE_EXIT) {
                leave = 1;
            }
        }
        shared->completed = completed;
        __atomic_store_n(&lane->reply, served, __ATOMIC_RELEASE);
        call(SYS_futex, (long)&lane->reply, FUTEX_WAKE, 1, 0);
        if (leave) call(SYS_exit, 0, 0, 0, 0);
    }
}
