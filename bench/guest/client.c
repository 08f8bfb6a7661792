// SPDX-License-Identifier: Apache-2.0

// The client inside the benchmark's guest: one request after the other, and what it saw of each. Reads
// commands, one per line, from the virtio serial port whose device is its only argument, and answers each
// with one JSON object on one line; bench/README.md lists them.

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "database.h"
#include "latencies.h"
#include "record.h"
#include "zipf.h"

enum { WRITE_PERCENT = 20, MAX_LINE = 256 };

static int channel;
static const struct database* database;
static struct zipf* keys;
static uint32_t* versions;  // by key

static uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void say(const char* text) {
    if (write(channel, text, strlen(text)) < 0) perror("client: channel");
}

static void refuse(const char* why) {
    char text[MAX_LINE];
    snprintf(text, sizeof text, "{\"ok\": false, \"error\": \"%.200s\"}\n", why);
    say(text);
}

static void do_fill(const char* name, uint64_t bytes) {
    const struct database* known[] = {&redis_database, &sqlite_database};
    if (database) return refuse("filled already");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i]->name, name)) database = known[i];
    if (!database) return refuse("no such database");
    uint64_t began = nanoseconds(), count = bytes / database->bytes_per_record;
    if (!count) return refuse("no room for a record");
    keys = zipf_new(count);
    versions = calloc(count, sizeof *versions);
    if (!keys || !versions) return refuse("no memory");
    if (database->fill(count)) return refuse(database_error());
    char text[MAX_LINE];
    snprintf(text, sizeof text, "{\"ok\": true, \"records\": %" PRIu64 ", \"seconds\": %.2f}\n", count,
             (double)(nanoseconds() - began) * 1e-9);
    say(text);
}

struct looked_at {
    uint64_t key, wrong;
};

static void check(const char* record, size_t length, void* context) {
    struct looked_at* looked_at = context;
    looked_at->wrong += !record_is(record, length, looked_at->key, versions[looked_at->key]);
}

static void do_run(double seconds) {
    if (!database) return refuse("fill first");
    static struct latencies latencies;
    memset(&latencies, 0, sizeof latencies);
    struct looked_at looked_at = {0, 0};
    char record[RECORD_BYTES];
    uint64_t began = nanoseconds(), now = began, end = began + (uint64_t)(seconds * 1e9), requests = 0;
    for (; now < end; requests++) {
        uint64_t key = looked_at.key = zipf_next(keys);
        int writes = zipf_random(keys) % 100 < WRITE_PERCENT;
        if (writes) record_write(record, key, versions[key] + 1);
        uint64_t sent = nanoseconds();
        if (writes ? database->set(key, record, RECORD_BYTES) : database->get(key, check, &looked_at))
            return refuse(database_error());
        versions[key] += writes;
        now = nanoseconds();
        latencies_add(&latencies, now - sent);
    }
    char text[2 * MAX_LINE];
    snprintf(text, sizeof text,
             "{\"ok\": true, \"accesses\": %" PRIu64 ", \"seconds\": %.4f, \"wrong\": %" PRIu64
             ", \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64 ", \"p999_ns\": %" PRIu64
             ", \"max_ns\": %" PRIu64 "}\n",
             requests, (double)(now - began) * 1e-9, looked_at.wrong, latencies_quantile(&latencies, 0.5),
             latencies_quantile(&latencies, 0.99), latencies_quantile(&latencies, 0.999), latencies.longest);
    say(text);
}

static void obey(char* line) {
    char name[16];
    uint64_t bytes;
    double seconds;
    if (sscanf(line, "fill %15s %" SCNu64, name, &bytes) == 2)
        do_fill(name, bytes);
    else if (sscanf(line, "run %lf", &seconds) == 1 && seconds > 0)
        do_run(seconds);
    else
        refuse("commands: fill redis|sqlite BYTES, run SECONDS");
}

int main(int argc, char** argv) {
    if (argc != 2 || (channel = open(argv[1], O_RDWR | O_CLOEXEC)) < 0) {
        perror(argc == 2 ? argv[1] : "usage: client PORT");
        return 1;
    }
    say("{\"event\": \"ready\"}\n");
    char line[MAX_LINE];
    for (size_t length = 0;;) {
        ssize_t count = read(channel, line + length, sizeof line - 1 - length);
        if (count <= 0) {
            // Not open on the host's side: nothing tells when it is.
            nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
            continue;
        }
        length += (size_t)count;
        line[length] = 0;
        for (char* end; (end = memchr(line, '\n', length));) {
            *end = 0;
            obey(line);
            length -= (size_t)(end + 1 - line);
            memmove(line, end + 1, length);
        }
        if (length == sizeof line - 1) length = 0;  // no command is that long
    }
}
