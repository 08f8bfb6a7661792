// SPDX-License-Identifier: Apache-2.0
#pragma once

// A directory of policies as the manager wants one: copies of those that were built, root's and writable by
// nobody else. Gone with the object. Throws std::runtime_error where it cannot be made. Not thread-safe.

#include <filesystem>
#include <string>

namespace thermocline::memory::testing {

class PolicyDirectory {
  public:
    PolicyDirectory();
    ~PolicyDirectory();
    PolicyDirectory(const PolicyDirectory&) = delete;
    PolicyDirectory& operator=(const PolicyDirectory&) = delete;

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    [[nodiscard]] std::filesystem::path file(const std::string& policy) const {
        return path_ / (policy + ".so");
    }

  private:
    std::filesystem::path path_;
};

}  // namespace thermocline::memory::testing
