// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <set>
#include <string>

#include "memory/process_map.h"

namespace thermocline::memory::testing {

/// What a process consists of, as far as an attachment could change it.
struct Anatomy {
    std::set<std::string> threads;
    std::set<std::string> descriptors;
    std::string mappings;

    explicit Anatomy(pid_t pid) {
        const auto proc = "/proc/" + std::to_string(pid);
        for (const auto& entry : std::filesystem::directory_iterator(proc + "/task"))
            threads.insert(entry.path().filename());
        for (const auto& entry : std::filesystem::directory_iterator(proc + "/fd"))
            descriptors.insert(entry.path().filename().string() + " " +
                               std::filesystem::read_symlink(entry.path()).string());
        mappings = readProcFile(proc + "/maps").value();
    }
    friend bool operator==(const Anatomy&, const Anatomy&) = default;
};

}  // namespace thermocline::memory::testing
