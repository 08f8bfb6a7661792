// SPDX-License-Identifier: Apache-2.0
#pragma once

// What is stored under a key: text like an application's, which names its key and version, so that a wrong
// byte in either is noticed. Plain functions.

#include <stddef.h>
#include <stdint.h>

enum { RECORD_BYTES = 1000 };

/// splitmix64's finalizer: a well-mixed function of `x`.
uint64_t mix64(uint64_t x);

/// Writes the record of a key at a version.
void record_write(char to[RECORD_BYTES], uint64_t key, uint32_t version);

/// Is it that record, at that length? Looks at every eighth byte and both ends.
int record_is(const char* found, size_t length, uint64_t key, uint32_t version);
