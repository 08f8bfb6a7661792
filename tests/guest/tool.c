// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "tool.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pattern.h"

static const char* const said = "/tool-output";
// An entry of the page map: present, and mapped here only. The kernel's page of zeros, which stands for all
// that was read before it was written, is not.
static const uint64_t own_page = 1ull << 63 | 1ull << 56;
static pid_t tool;

struct mapping {
    pid_t pid;
    uint64_t start, end;
};

int tool_start(char** words) {
    if (tool) return EBUSY;
    int output = open(said, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (output < 0) return errno;
    tool = fork();
    if (tool == 0) {
        setpgid(0, 0);
        dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
        dup2(output, 1);
        dup2(output, 2);
        execv(words[0], words);
        dprintf(2, "%s: %s\n", words[0], strerror(errno));
        _exit(127);
    }
    int error = tool < 0 ? errno : 0;
    if (error)
        tool = 0;
    else
        setpgid(tool, tool);  // whoever of the two is first
    close(output);
    return error;
}

int tool_running(void) {
    return tool != 0;
}

static size_t show(char* text, size_t length) {
    size_t kept = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] != '\b')
            text[kept++] = text[i];
        else if (kept)
            kept--;
    }
    return kept;
}

static void read_said(char* output, size_t size) {
    size_t length = 0;
    char chunk[4096];
    int file = open(said, O_RDONLY | O_CLOEXEC);
    for (ssize_t count; (count = read(file, chunk, sizeof chunk)) > 0;) {
        size_t bytes = (size_t)count, room = size - 1;
        if (length + bytes > room) {  // the end counts
            size_t drop = length + bytes - room;
            drop = drop > length ? length : drop;
            memmove(output, output + drop, length - drop);
            length -= drop;
        }
        memcpy(output + length, chunk, bytes);
        length = show(output, length + bytes);
    }
    output[length] = 0;
    close(file);
}

int tool_finish(char* output, size_t size) {
    int status = 0;
    kill(-tool, SIGCONT);
    while (waitpid(tool, &status, 0) < 0 && errno == EINTR) {
    }
    tool = 0;
    read_said(output, size);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void tool_kill(void) {
    if (!tool) return;
    kill(-tool, SIGKILL);
    while (waitpid(tool, NULL, 0) < 0 && errno == EINTR) {
    }
    tool = 0;
}

static void look_at(pid_t pid, struct mapping* largest) {
    char path[64], line[512], permissions[8];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE* maps = fopen(path, "re");
    if (!maps) return;  // it has ended
    while (fgets(line, sizeof line, maps)) {
        uint64_t start = 0, end = 0, inode = 1;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %" SCNu64, &start, &end, permissions, &inode) !=
            4)
            continue;
        if (strncmp(permissions, "rw", 2) || (permissions[3] == 'p' && inode) || strchr(line, '[')) continue;
        if (end - start > largest->end - largest->start) *largest = (struct mapping){pid, start, end};
    }
    fclose(maps);
}

static struct mapping largest_mapping(void) {
    struct mapping largest = {0};
    DIR* processes = opendir("/proc");
    for (struct dirent* entry; processes && (entry = readdir(processes));) {
        pid_t pid = atoi(entry->d_name);
        if (isdigit((unsigned char)entry->d_name[0]) && pid != getpid()) look_at(pid, &largest);
    }
    if (processes) closedir(processes);
    return largest;
}

static uint64_t present_page(uint64_t index) {
    struct mapping mapping = largest_mapping();
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/pagemap", (int)mapping.pid);
    int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t physical = 0;
    for (uint64_t at = mapping.start; at < mapping.end && pagemap >= 0; at += PAGE_BYTES) {
        uint64_t entry = 0;
        if (pread(pagemap, &entry, sizeof entry, (off_t)(at / PAGE_BYTES * sizeof entry)) != sizeof entry)
            break;
        if ((entry & own_page) != own_page || index--) continue;
        physical = (entry & ((1ull << 55) - 1)) * PAGE_BYTES;
        break;
    }
    if (pagemap >= 0) close(pagemap);
    return physical;
}

uint64_t tool_page(uint64_t index) {
    if (!tool) return 0;
    kill(-tool, SIGSTOP);
    uint64_t physical = present_page(index);
    if (!physical) kill(-tool, SIGCONT);
    return physical;
}
