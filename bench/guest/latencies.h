// SPDX-License-Identifier: Apache-2.0
#pragma once

// How long requests took: counts by size, exact to 1/16. Not thread-safe. All zeros is an empty one.

#include <stdint.h>

enum { LATENCY_BUCKETS = 64 * 16 };

struct latencies {
    uint64_t counts[LATENCY_BUCKETS];
    uint64_t all, longest;
};

void latencies_add(struct latencies* latencies, uint64_t nanoseconds);
/// Nanoseconds that so large a share did not exceed; 0 without any.
uint64_t latencies_quantile(const struct latencies* latencies, double share);
