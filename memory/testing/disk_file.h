// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace thermocline::memory::testing {

/// The name of a file on a disk, since a tmpfs has no O_DIRECT; removed at the end.
class DiskFile {
  public:
    ~DiskFile() { std::filesystem::remove(path_); }
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    std::string path_ =
        (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "direct-io.data").string();
};

}  // namespace thermocline::memory::testing
