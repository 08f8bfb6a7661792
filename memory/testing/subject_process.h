// SPDX-License-Identifier: Apache-2.0
#pragma once

// Starts the subject (subject.cpp) and talks to it. For tests and benchmarks; throws std::runtime_error where
// it cannot. Not thread-safe.

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/unique_fd.h"
#include "memory/page.h"

namespace thermocline::memory::testing {

/// Of what the subject's memory is made.
enum class SubjectMemory {
    small,
    huge,    ///< transparent huge pages, where the kernel has them
    shared,  ///< a memfd
};

class SubjectProcess {
  public:
    /// `arguments`: ignored by the subject, seen in its command line (so that it can look like QEMU).
    SubjectProcess(std::uint64_t bytes, SubjectMemory memory, std::vector<std::string> arguments = {});
    SubjectProcess(std::uint64_t bytes, bool huge, std::vector<std::string> arguments = {})
        : SubjectProcess(bytes, huge ? SubjectMemory::huge : SubjectMemory::small, std::move(arguments)) {}
    /// Kills the process.
    ~SubjectProcess();
    SubjectProcess(const SubjectProcess&) = delete;
    SubjectProcess& operator=(const SubjectProcess&) = delete;

    /// Sends a command and returns the answer.
    std::string command(const std::string& text);
    /// The two halves of command(): for what takes long.
    void send(const std::string& text);
    std::string answer();
    void kill();

    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] std::vector<VmRange> guestRam() const { return {range_}; }

  private:
    pid_t pid_ = -1;
    UniqueFd input_;
    UniqueFd output_;
    std::string buffered_;
    VmRange range_;
};

}  // namespace thermocline::memory::testing
