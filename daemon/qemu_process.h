// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "common/error.h"

namespace thermocline {

/// Finds the QEMU process of a domain. libvirt's public interface does not tell it, but libvirt's
/// pid file does (<pidFileDirectory>/<name>.pid, root's own), which is checked against `-uuid` on
/// the process' command line. Where there is no such file (session mode, other distributions'
/// paths) the whole of /proc is searched, and two matches are an error rather than a guess,
/// because anyone may start a process with any command line. Immutable, thread-safe.
class QemuProcesses {
  public:
    explicit QemuProcesses(std::filesystem::path pidFileDirectory = "/run/libvirt/qemu",
                           std::filesystem::path proc = "/proc");

    /// `uuid`: lower case with dashes. Errors: processGone where
    /// there is none, systemError where there are several.
    [[nodiscard]] Result<pid_t> find(const std::string& uuid, const std::string& name) const;
    /// True where the process has `-uuid UUID` on its command line.
    [[nodiscard]] bool matches(pid_t pid, const std::string& uuid) const;
    /// Clock ticks after boot at which the process started: with the pid, a name that is never used twice.
    [[nodiscard]] Result<std::uint64_t> startTime(pid_t pid) const;

  private:
    std::filesystem::path pidFileDirectory_;
    std::filesystem::path proc_;
};

}  // namespace thermocline
