// SPDX-License-Identifier: Apache-2.0
#pragma once

// The key of the file tier: 32 bytes that exist in RAM only, and in one place. Where the kernel has secret
// memory (memfd_secret, on by default since Linux 6.5) that is where they are: never swapped, in no core
// dump, not mapped even by the kernel itself, readable only by who has the descriptor and maps it. The VM's
// process keeps that descriptor open as it does the userfaultfds, so the key outlives its manager; it ends
// with the last process that holds it, when the kernel clears the page. Elsewhere it is a locked page of this
// process, and ends with it. Not thread-safe.

#include <cstddef>
#include <span>

#include "common/error.h"
#include "common/unique_fd.h"

namespace thermocline::memory {

class FrozenKey {
  public:
    static constexpr std::size_t keyBytes = 32;

    /// A new one. Error: permissionDenied where its memory cannot be locked (RLIMIT_MEMLOCK); systemError.
    static Result<FrozenKey> draw();
    /// The one behind a descriptor() that was kept open elsewhere. Error: notSupported where that is no
    /// secret memory of the right size, so that nobody can take it away under our feet; systemError.
    static Result<FrozenKey> take(UniqueFd descriptor);
    FrozenKey(FrozenKey&& other) noexcept;
    FrozenKey& operator=(FrozenKey&&) = delete;
    /// Forgets it here, and overwrites it where nobody else can have it.
    ~FrozenKey();

    [[nodiscard]] const unsigned char* bytes() const { return page_; }
    /// Overwrites it, for everybody who has it.
    void wipe();
    /// To be kept open elsewhere; -1 where it can only be here.
    [[nodiscard]] int descriptor() const { return descriptor_.get(); }

  private:
    FrozenKey(UniqueFd descriptor, unsigned char* page) : descriptor_(std::move(descriptor)), page_(page) {}
    static Result<FrozenKey> map(UniqueFd descriptor);

    UniqueFd descriptor_;
    unsigned char* page_;
};

}  // namespace thermocline::memory
