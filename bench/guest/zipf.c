// SPDX-License-Identifier: Apache-2.0
#include "zipf.h"

#include <math.h>
#include <stdlib.h>

#include "record.h"

struct zipf {
    uint64_t count, state;
    double* below;   // below[rank]: how probable that rank or a lower one is, times the sum of all weights
    uint32_t* keys;  // by rank
};

struct zipf* zipf_new(uint64_t count) {
    struct zipf* zipf = calloc(1, sizeof *zipf);
    if (!zipf) return NULL;
    zipf->count = count;
    zipf->below = malloc(count * sizeof *zipf->below);
    zipf->keys = malloc(count * sizeof *zipf->keys);
    if (!zipf->below || !zipf->keys) return NULL;  // the program ends then
    double sum = 0;
    for (uint64_t rank = 0; rank < count; rank++) {
        zipf->below[rank] = sum += pow((double)(rank + 1), -0.99);
        zipf->keys[rank] = (uint32_t)rank;
    }
    for (uint64_t i = count - 1; i > 0; i--) {
        uint64_t other = mix64(i) % (i + 1);
        uint32_t key = zipf->keys[i];
        zipf->keys[i] = zipf->keys[other];
        zipf->keys[other] = key;
    }
    return zipf;
}

uint64_t zipf_random(struct zipf* zipf) {
    return mix64(zipf->state++);
}

uint64_t zipf_next(struct zipf* zipf) {
    double wanted = (double)(zipf_random(zipf) >> 11) * 0x1p-53 * zipf->below[zipf->count - 1];
    uint64_t low = 0, high = zipf->count - 1;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (zipf->below[middle] > wanted)
            high = middle;
        else
            low = middle + 1;
    }
    return zipf->keys[low];
}
