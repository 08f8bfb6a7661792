// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
// The workload inside the test guest. Reads commands, one per line, from the virtio serial port whose device
// is its only argument, and answers each with one JSON object on one line; README.md beside this file lists
// them. It says {"event": "ready", ...} once when it starts.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/reboot.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "region.h"
#include "spinner.h"
#include "tool.h"

enum { MAX_LINE = 512, MAX_WORDS = 40, TOOL_OUTPUT = 16384 };

static int channel;
static struct regions regions;

static void say(const char* text, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t count = write(channel, text + done, length - done);
        if (count > 0)
            done += (size_t)count;
        else if (errno != EINTR && errno != EAGAIN)
            return;
    }
}

static void answer(const char* format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text - 1, format, arguments);
    va_end(arguments);
    text[length++] = '\n';
    say(text, (size_t)length);
}

static void refuse(const char* why) {
    answer("{\"ok\": false, \"error\": \"%s\"}", why);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void answer_mismatch(uint64_t checked, uint64_t wrong, const struct mismatch* first) {
    answer("{\"ok\": false, \"error\": \"mismatch\", \"pages\": %" PRIu64 ", \"wrong_pages\": %" PRIu64
           ", \"region\": %u, \"page\": %" PRIu64
           ", \"offset\": %u, \"generation\": %u, \"expected\": %u, \"got\": %u}",
           checked, wrong, first->region, first->page, first->offset, first->generation, first->expected,
           first->got);
}

static uint64_t number(const char* text) {
    return strtoull(text, NULL, 10);
}

static void do_fill(int count, char** word) {
    double begin = seconds();
    struct pattern pattern = {.seed = number(word[2]),
                              .random_percent = count > 3 ? (unsigned)number(word[3]) : 50};
    if (pattern.random_percent > 100) return refuse("random percent above 100");
    struct region* region = region_add(&regions, number(word[1]), pattern);
    if (!region) return refuse(strerror(errno));
    answer("{\"ok\": true, \"region\": %u, \"pages\": %" PRIu64 ", \"seconds\": %.3f}",
           (unsigned)(region - regions.list), region->pages, seconds() - begin);
}

static void do_verify(int count, char** word) {
    (void)count, (void)word;
    double begin = seconds();
    uint64_t pages = 0, wrong = 0;
    struct mismatch first = {0}, mismatch;
    for (unsigned i = 0; i < regions.count; i++) {
        for (uint64_t page = 0; page < regions.list[i].pages; page++, pages++) {
            if (region_check(&regions.list[i], page, &mismatch)) continue;
            mismatch.region = i;
            if (!wrong++) first = mismatch;
        }
    }
    if (wrong) return answer_mismatch(pages, wrong, &first);
    answer("{\"ok\": true, \"pages\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"seconds\": %.3f}", pages,
           pages * PAGE_BYTES, seconds() - begin);
}

// touch random|sequential COUNT [read|write] [SEED]
static void do_touch(int count, char** word) {
    uint64_t total = regions_pages(&regions), times = number(word[2]), wrong = 0;
    int random = !strcmp(word[1], "random"), write = count > 3 && !strcmp(word[3], "write");
    uint64_t state = count > 4 ? number(word[4]) : 1;
    struct mismatch first = {0}, mismatch;
    if (!total) return refuse("nothing filled yet");
    double begin = seconds();
    for (uint64_t i = 0; i < times; i++) {
        uint64_t page;
        struct region* region =
            regions_find(&regions, random ? (state = mix64(state)) % total : i % total, &page);
        if (!region_check(region, page, &mismatch) && !wrong++) {
            first = mismatch;
            first.region = (unsigned)(region - regions.list);
        }
        if (!write) continue;
        region->generation[page]++;
        region_write(region, page);
    }
    if (wrong) return answer_mismatch(times, wrong, &first);
    answer("{\"ok\": true, \"pages\": %" PRIu64 ", \"seconds\": %.3f}", times, seconds() - begin);
}

static void do_free(int count, char** word) {
    (void)count;
    if (region_give_back(&regions, number(word[1]))) return refuse(strerror(errno));
    answer("{\"ok\": true, \"pages\": %" PRIu64 "}", regions_pages(&regions));
}

static void do_reset(int count, char** word) {
    (void)count, (void)word;
    if (spin_running()) spin_stop();
    tool_kill();
    while (regions.count) {
        if (region_give_back(&regions, regions.list[regions.count - 1].pages * PAGE_BYTES))
            return refuse(strerror(errno));
    }
    answer("{\"ok\": true}");
}

static void answer_spin(const struct spin_result* result) {
    if (result->wrong) return answer_mismatch(result->checked, result->wrong, &result->first);
    answer("{\"ok\": true, \"spinning\": %s, \"pages\": %" PRIu64 ", \"written_pages\": %" PRIu64
           ", \"worst_page_us\": %" PRIu64 "}",
           spin_running() ? "true" : "false", result->checked, result->written,
           result->worst_page_microseconds);
}

// spin [THREADS] [WRITE_PERCENT]
static void do_spin(int count, char** word) {
    int error = spin_start(&regions, count > 1 ? (unsigned)number(word[1]) : 2,
                           count > 2 ? (unsigned)number(word[2]) : 20);
    if (error) return refuse(strerror(error));
    answer("{\"ok\": true, \"spinning\": true}");
}

static void do_progress(int count, char** word) {
    (void)count, (void)word;
    struct spin_result result = spin_so_far();
    answer_spin(&result);
}

static void do_stop(int count, char** word) {
    (void)count, (void)word;
    struct spin_result result = spin_stop();
    answer_spin(&result);
}

// disk write SEED, disk read SEED PASSES
static void do_disk(int count, char** word) {
    struct pattern pattern = {.seed = number(word[2]), .random_percent = 50};
    struct disk_result result =
        !strcmp(word[1], "write") ? disk_write("/dev/vda", pattern)
                                  : disk_read("/dev/vda", pattern, count > 3 ? (unsigned)number(word[3]) : 1);
    if (result.error) return refuse(strerror(result.error));
    if (result.wrong) return answer_mismatch(result.pages, result.wrong, &result.first);
    answer("{\"ok\": true, \"pages\": %" PRIu64 "}", result.pages);
}

// where REGION PAGE: the guest-physical address, for tests that spoil a page from outside.
static void do_where(int count, char** word) {
    (void)count;
    uint64_t index = number(word[1]), page = number(word[2]), entry = 0;
    if (index >= regions.count || page >= regions.list[index].pages) return refuse("no such page");
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    off_t at = (off_t)((uintptr_t)region_words(&regions.list[index], page) / PAGE_BYTES * sizeof entry);
    ssize_t got = pread(pagemap, &entry, sizeof entry, at);
    close(pagemap);
    if (got != sizeof entry || !(entry >> 63)) return refuse("page is not present");
    answer("{\"ok\": true, \"physical\": %" PRIu64 "}", (entry & ((1ull << 55) - 1)) * PAGE_BYTES);
}

// start PROGRAM [ARGUMENT]...
static void do_start(int count, char** word) {
    (void)count;
    int error = tool_start(word + 1);
    if (error) return refuse(strerror(error));
    answer("{\"ok\": true}");
}

// finish: answers when the program has ended.
static void do_finish(int count, char** word) {
    (void)count, (void)word;
    static char output[TOOL_OUTPUT], text[6 * TOOL_OUTPUT + 64];
    if (!tool_running()) return refuse("nothing was started");
    int code = tool_finish(output, sizeof output);
    int length = sprintf(text, "{\"ok\": true, \"exit_code\": %d, \"output\": \"", code);
    for (const unsigned char* at = (unsigned char*)output; *at; at++) {
        const int plain = *at >= ' ' && *at < 0x7f && *at != '"' && *at != '\\';
        length += sprintf(text + length, plain ? "%c" : "\\u%04x", *at);
    }
    length += sprintf(text + length, "\"}\n");
    say(text, (size_t)length);
}

// tool-page INDEX: guest-physical address of a page that the started program works on; it stands still until
// `finish`.
static void do_tool_page(int count, char** word) {
    (void)count;
    uint64_t physical = tool_page(number(word[1]));
    if (!physical) return refuse("no such page");
    answer("{\"ok\": true, \"physical\": %" PRIu64 "}", physical);
}

static void boot_id(char* to, size_t size) {
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t count = read(fd, to, size - 1);
    close(fd);
    to[count > 0 ? count : 0] = 0;
    to[strcspn(to, "\n")] = 0;
}

static void do_status(int count, char** word) {
    (void)count, (void)word;
    struct sysinfo info;
    char id[64];
    sysinfo(&info);
    boot_id(id, sizeof id);
    answer("{\"ok\": true, \"pages\": %" PRIu64
           ", \"spinning\": %s, \"boot_id\": \"%s\", \"memory_bytes\": %" PRIu64 ", \"free_bytes\": %" PRIu64
           ", \"uptime_seconds\": %ld}",
           regions_pages(&regions), spin_running() ? "true" : "false", id,
           (uint64_t)info.totalram * info.mem_unit, (uint64_t)info.freeram * info.mem_unit, info.uptime);
}

static void do_reboot(int count, char** word) {
    (void)count;
    answer("{\"ok\": true}");
    reboot(!strcmp(word[0], "reboot") ? RB_AUTOBOOT : RB_POWER_OFF);
}

// crash: tells the panic device (pvpanic), as a kernel's panic does. Only once the processors are started
// again, if ever, does anything else come.
static void do_crash(int count, char** word) {
    enum { PORT = 0x505, PANICKED = 1 };
    (void)count;
    (void)word;
    if (ioperm(PORT, 1, 1)) return refuse(strerror(errno));
    answer("{\"ok\": true}");
    outb(PANICKED, PORT);
}

static const struct {
    const char* name;
    int words;  // at least, with the name
    int alone;  // not while spinner threads own the pages
    void (*run)(int count, char** word);
} commands[] = {
    {"fill", 3, 1, do_fill},           {"verify", 1, 1, do_verify}, {"touch", 3, 1, do_touch},
    {"free", 2, 1, do_free},           {"spin", 1, 1, do_spin},     {"progress", 1, 0, do_progress},
    {"stop", 1, 0, do_stop},           {"reset", 1, 0, do_reset},   {"disk", 3, 0, do_disk},
    {"where", 3, 0, do_where},         {"status", 1, 0, do_status}, {"reboot", 1, 0, do_reboot},
    {"poweroff", 1, 0, do_reboot},     {"start", 2, 0, do_start},   {"finish", 1, 0, do_finish},
    {"tool-page", 2, 0, do_tool_page}, {"crash", 1, 0, do_crash},
};

static void obey(char* line) {
    char* word[MAX_WORDS + 1];
    int count = 0;
    for (char* part = strtok(line, " \r"); part && count < MAX_WORDS; part = strtok(NULL, " \r"))
        word[count++] = part;
    word[count] = NULL;
    if (!count) return;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(word[0], commands[i].name)) continue;
        if (count < commands[i].words) return refuse("too few words");
        if (commands[i].alone && spin_running()) return refuse("stop spinning first");
        return commands[i].run(count, word);
    }
    refuse("unknown command");
}

static void wait_for_host(void) {
    // A port that the host has not opened yet reads as end of file; POLLHUP ends when the host opens it,
    // without an event of its own, so this is the one place that has to look again and again.
    struct pollfd port = {.fd = channel, .events = POLLIN};
    if (poll(&port, 1, -1) > 0 && (port.revents & POLLHUP))
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

int main(int argc, char** argv) {
    if (argc != 2 || (channel = open(argv[1], O_RDWR | O_CLOEXEC)) < 0) {
        perror(argc == 2 ? argv[1] : "usage: guestmem PORT");
        return 1;
    }
    char id[64], line[MAX_LINE];
    size_t length = 0;
    boot_id(id, sizeof id);
    answer("{\"event\": \"ready\", \"boot_id\": \"%s\"}", id);
    for (;;) {
        ssize_t count = read(channel, line + length, sizeof line - 1 - length);
        if (count <= 0) {
            wait_for_host();
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
