// SPDX-License-Identifier: Apache-2.0

// A policy from the future; also shows that the interface is C.

#include "thermocline_policy.h"

static int create(const struct thermocline_policy_services* services, thermocline_policy_context* context,
                  const struct thermocline_policy_option* options, size_t option_count, void** self) {
    (void)services, (void)context, (void)options, (void)option_count, (void)self;
    return 0;
}

const struct thermocline_policy thermocline_policy_entry = {
    .abi = THERMOCLINE_POLICY_ABI + 1,
    .size = sizeof(struct thermocline_policy),
    .name = "tomorrow's",
    .create = create,
};
