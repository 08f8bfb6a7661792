// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which key is next: Zipf 0.99, ranks scattered over all keys. Not thread-safe.

#include <stdint.h>

struct zipf;

/// NULL without memory. `count` below 2^32.
struct zipf* zipf_new(uint64_t count);
uint64_t zipf_next(struct zipf* zipf);
/// 64 random bits from the same source.
uint64_t zipf_random(struct zipf* zipf);
