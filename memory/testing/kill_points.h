// SPDX-License-Identifier: Apache-2.0
#pragma once

// Has a process die by SIGKILL at a named sequence point (memory/sequence_point.h). For the managers of
// tests only; the real one is built without it.

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

#include "memory/sequence_point.h"

namespace thermocline::memory::testing {

inline std::string killPoint;
inline std::atomic<long> passesLeft{0};

/// As the environment says: `variable`=POINT:N, at the Nth time that POINT is passed.
inline void killWhereToldTo(const char* variable) {
    const char* told = std::getenv(variable);
    if (told == nullptr) return;
    const char* colon = std::strchr(told, ':');
    killPoint = colon == nullptr ? told : std::string(told, colon);
    passesLeft = colon == nullptr ? 1 : std::atol(colon + 1);
    sequenceListener = [](const char* point) {
        if (killPoint == point && --passesLeft == 0) ::raise(SIGKILL);
    };
}

}  // namespace thermocline::memory::testing
