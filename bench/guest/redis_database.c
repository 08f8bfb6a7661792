// SPDX-License-Identifier: Apache-2.0

// A Redis server of our own, over a UNIX socket, in its text protocol (RESP): one request at a time, but for
// the first filling, which sends many before it reads the answers.

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "database.h"
#include "record.h"

enum { BATCH = 32, HEAD = 96, LINE = 128 };

static const char socket_path[] = "/tmp/redis.sock";
static FILE *requests, *answers;

static int start_server(void) {
    pid_t pid = fork();
    if (pid < 0) return database_fail("redis: fork: %s", strerror(errno));
    if (pid == 0) {
        // Nothing is saved: a fork of the server would double what is measured.
        execl("/bin/redis-server", "redis-server", "--port", "0", "--unixsocket", socket_path, "--save", "",
              "--appendonly", "no", "--dir", "/tmp", "--loglevel", "warning", (char*)NULL);
        _exit(127);
    }
    const struct sockaddr_un address = {AF_UNIX, "/tmp/redis.sock"};
    for (int tries = 0; tries < 1000; tries++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (const struct sockaddr*)&address, sizeof address) == 0) {
            requests = fdopen(fd, "w");
            answers = fdopen(dup(fd), "r");
            return requests && answers ? 0 : database_fail("redis: no memory");
        }
        close(fd);
        int status;
        if (waitpid(pid, &status, WNOHANG) == pid)
            return database_fail("redis: the server ended with status %d; see the console", status);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return database_fail("redis: the server does not listen");
}

static void send_set(uint64_t key, const char* record, size_t length) {
    char name[24];
    int size = snprintf(name, sizeof name, "record:%" PRIu64, key);
    fprintf(requests, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%zu\r\n", size, name, length);
    fwrite(record, 1, length, requests);
    fputs("\r\n", requests);
}

static int answer_line(char line[LINE]) {
    if (fflush(requests) || !fgets(line, LINE, answers)) return database_fail("redis: the connection ended");
    return line[0] == '-' ? database_fail("redis: %s", line) : 0;
}

static int fill(uint64_t count) {
    if (start_server()) return -1;
    char record[RECORD_BYTES], line[LINE];
    for (uint64_t first = 0; first < count; first += BATCH) {
        uint64_t end = first + BATCH < count ? first + BATCH : count;
        for (uint64_t key = first; key < end; key++) {
            record_write(record, key, 0);
            send_set(key, record, RECORD_BYTES);
        }
        for (uint64_t key = first; key < end; key++)
            if (answer_line(line)) return -1;
    }
    return 0;
}

static int get(uint64_t key, void (*check)(const char*, size_t, void*), void* context) {
    static char value[2 * RECORD_BYTES];
    char name[24], line[LINE];
    int size = snprintf(name, sizeof name, "record:%" PRIu64, key);
    fprintf(requests, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", size, name);
    if (answer_line(line)) return -1;
    long length = line[0] == '$' ? strtol(line + 1, NULL, 10) : -1;
    if (length < 0 || (size_t)length + 2 > sizeof value) return database_fail("redis: no %s: %s", name, line);
    if (fread(value, 1, (size_t)length + 2, answers) != (size_t)length + 2)
        return database_fail("redis: the connection ended");
    check(value, (size_t)length, context);
    return 0;
}

static int set(uint64_t key, const char* record, size_t length) {
    char line[LINE];
    send_set(key, record, length);
    return answer_line(line);
}

const struct database redis_database = {"redis", fill, get, set, 1250};
