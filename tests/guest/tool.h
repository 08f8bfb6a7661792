// SPDX-License-Identifier: Apache-2.0
#pragma once

// Runs one program at a time in the guest and keeps what it says; and finds the memory that it works on, for
// tests that spoil a byte of it from outside. Not thread-safe.

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Starts `words` (NULL-terminated, first an absolute path); its stdout and stderr go to a file. 0 or an
// errno.
int tool_start(char** words);
int tool_running(void);
// Waits for the program's end, having let go on what tool_page() stopped; returns its exit code (128 + the
// signal's number where one ended it). At most `size` - 1 bytes of what it said last, as a terminal would
// show them (backspaces take away), are in `output`.
int tool_finish(char* output, size_t size);
// Ends the program with all that it started, if it runs.
void tool_kill(void);
// Guest-physical address of the `index`-th page that is present and nobody else's of the largest anonymous
// mapping that any process but this one has; 0 where there is none. Where there is one, the program and all
// that it started stand still from then on: it cannot end before somebody has used the address.
uint64_t tool_page(uint64_t index);
