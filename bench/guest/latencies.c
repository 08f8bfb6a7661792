// SPDX-License-Identifier: Apache-2.0
#include "latencies.h"

// A power of two has 16 buckets; what is below 16 has one each.
static unsigned bucket_of(uint64_t value) {
    if (value < 16) return (unsigned)value;
    unsigned power = 63 - (unsigned)__builtin_clzll(value);
    return (power - 3) * 16 + (unsigned)(value >> (power - 4) & 15);
}

static uint64_t top_of(unsigned bucket) {
    if (bucket < 16) return bucket;
    unsigned power = bucket / 16 + 3;
    return (((uint64_t)(bucket % 16 + 16) + 1) << (power - 4)) - 1;
}

void latencies_add(struct latencies* latencies, uint64_t nanoseconds) {
    latencies->counts[bucket_of(nanoseconds)]++;
    latencies->all++;
    if (nanoseconds > latencies->longest) latencies->longest = nanoseconds;
}

uint64_t latencies_quantile(const struct latencies* latencies, double share) {
    uint64_t left = (uint64_t)(share * (double)latencies->all);
    for (unsigned bucket = 0; bucket < LATENCY_BUCKETS; bucket++) {
        if (left < latencies->counts[bucket]) return top_of(bucket);
        left -= latencies->counts[bucket];
    }
    return latencies->longest;
}
