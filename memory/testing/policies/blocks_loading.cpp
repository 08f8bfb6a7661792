// SPDX-License-Identifier: Apache-2.0

// A policy whose static constructor never returns.

#include <unistd.h>

#include "policy.hpp"

namespace {

using namespace thermocline::policy;

struct Forever {
    Forever() {
        while (true)
            ::pause();
    }
} const forever;

struct Idle final : Policy {
    Idle(Context, const Options&) {}
};

}  // namespace

THERMOCLINE_EXPORT_POLICY(Idle, "blocks-loading");
