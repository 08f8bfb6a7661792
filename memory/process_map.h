// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reads what a process has mapped, from /proc/PID/smaps. Plain data, no shared state.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/page.h"

namespace thermocline::memory {

/// One mapping (VMA) of a process.
struct Mapping {
    VmRange range;
    std::string permissions;  ///< as in maps, for example "rw-p"
    std::string path;         ///< file or "[vdso]"; empty for anonymous memory
    std::string
        vmFlags;  ///< two-letter flags with spaces around each, for example " rd wr hg dc "; smaps only
    std::uint64_t lockedBytes = 0;
    std::uint64_t fileOffset = 0;  ///< where in the file `range` starts
    std::string device{};          ///< of the file, as in maps: "00:01"
    std::uint64_t inode = 0;       ///< of the file; 0: none

    [[nodiscard]] bool hasFlag(std::string_view flag) const;
    [[nodiscard]] bool anonymousPrivateWritable() const { return path.empty() && permissions == "rw-p"; }
    /// Of a memfd, or anonymous memory that is shared.
    [[nodiscard]] bool sharedWritable() const {
        return permissions == "rw-s" && (path.starts_with("/memfd:") || path == "/dev/zero (deleted)");
    }
};

/// Parses the text of /proc/PID/maps or smaps. Lines that it cannot read are an error (systemError), never
/// skipped.
Result<std::vector<Mapping>> parseMappings(std::string_view text);

/// All mappings of `pid` with their flags. Errors: processGone, permissionDenied.
Result<std::vector<Mapping>> readMappings(pid_t pid);

/// Value of "Name:   123 kB" in the text of /proc/PID/status, in bytes; 0 where absent.
std::uint64_t statusField(std::string_view statusText, std::string_view name);

/// Whole text of a file under /proc (or any small file). Errors: processGone for ENOENT and ESRCH,
/// permissionDenied.
Result<std::string> readProcFile(const std::string& path);

/// Clock ticks after boot at which the process started: with the pid, a name that is never used twice.
Result<std::uint64_t> processStartTime(pid_t pid);

/// On which CPU did a thread run last? Some 5 us for who asks again and again, most often of the same thread.
/// Not thread-safe.
class LastCpu {
  public:
    /// Nothing where that cannot be told.
    [[nodiscard]] std::optional<int> of(pid_t thread);

  private:
    pid_t thread_ = 0;
    UniqueFd stat_;  // of that thread and no other, even if its number is used again
};

/// May it run on one CPU only? False where that cannot be told.
bool isBoundToOneCpu(pid_t thread);

}  // namespace thermocline::memory
