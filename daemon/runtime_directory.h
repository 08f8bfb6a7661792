// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/unique_fd.h"

namespace thermocline {

/// What the daemon itself remembers in a domain's state directory,
/// so that a daemon that starts later knows whose it is.
struct DomainRecord {
    std::string uuid;
    std::string name;
    pid_t pid = 0;                ///< the VM's process
    std::uint64_t startTime = 0;  ///< its start, in clock ticks after boot
};

/// /run/thermocline: mode 0700, in memory, one daemon at a time. Where it is not on a tmpfs
/// already, one is mounted on it (without swap where the kernel can: cold pages that go to a
/// swap device would be slower and unencrypted), and unmounted by the destructor, but only by
/// the process that mounted it and only when no domain's directory remains. Not thread-safe.
class RuntimeDirectory {
  public:
    /// Errors: alreadyRunning where another daemon holds it; systemError, permissionDenied.
    static Result<RuntimeDirectory> open(std::filesystem::path path);
    RuntimeDirectory(RuntimeDirectory&& other) noexcept;
    RuntimeDirectory& operator=(RuntimeDirectory&&) = delete;
    RuntimeDirectory(const RuntimeDirectory&) = delete;
    ~RuntimeDirectory();

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    /// <path>/domain/<uuid>, whether it exists or not. REQUIRES: uuid has no '/'.
    [[nodiscard]] std::filesystem::path domainDirectory(const std::string& uuid) const;
    /// A new, empty directory of mode 0700 with the record in it; what an earlier one left is removed first.
    Result<std::filesystem::path> createDomain(const DomainRecord& record) const;
    Result<void> removeDomain(const std::string& uuid) const;
    /// Directories that exist: left by a daemon before this one. Without a readable record: uuid only.
    [[nodiscard]] std::vector<DomainRecord> domains() const;

  private:
    RuntimeDirectory(std::filesystem::path path, bool mounted) : path_(std::move(path)), mounted_(mounted) {}
    Result<void> lock();

    std::filesystem::path path_;
    bool mounted_ = false;  ///< by this process
    UniqueFd lock_;
};

}  // namespace thermocline
