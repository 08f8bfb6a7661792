// SPDX-License-Identifier: Apache-2.0
#pragma once

// Memory as QEMU maps it for a guest: private, anonymous, aligned to huge pages, kept from children, and of
// exactly the size that "-m" names on the command line, which is how a manager finds it. Not thread-safe.

#include <cstddef>
#include <cstdint>

namespace thermocline::bench {

class VmRam {
  public:
    /// Ends the program with a message where the kernel refuses.
    VmRam(std::uint64_t bytes, bool huge);
    ~VmRam();
    VmRam(const VmRam&) = delete;
    VmRam& operator=(const VmRam&) = delete;

    [[nodiscard]] std::byte* data() const { return data_; }
    [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

  private:
    std::byte* reserved_ = nullptr;
    std::byte* data_ = nullptr;
    std::uint64_t bytes_;
};

}  // namespace thermocline::bench
