// SPDX-License-Identifier: Apache-2.0
#pragma once

// Waits for another process to get somewhere that nothing announces. For tests.

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <thread>

#include "memory/process_map.h"

namespace thermocline::memory::testing {

/// Waits until `threads` threads of the process are blocked in system call `number`, or on a page fault where
/// that is -1.
inline void awaitBlocked(pid_t pid, const std::string& number, int threads = 1) {
    const auto task = "/proc/" + std::to_string(pid) + "/task";
    for (;;) {
        int blocked = 0;
        for (const auto& entry : std::filesystem::directory_iterator(task)) {
            const auto call = readProcFile(entry.path().string() + "/syscall");
            if (call && call->starts_with(number + " ")) ++blocked;
        }
        if (blocked >= threads) return;
        std::this_thread::yield();
    }
}

}  // namespace thermocline::memory::testing
