// SPDX-License-Identifier: Apache-2.0
#pragma once

// One io_uring for reads and writes of files, with an eventfd that says when there is something to collect.
// The kernel is told to accept nothing else from this ring, so that it is no way around a seccomp filter. Not
// thread-safe. Its end waits for what is under way, so buffers may be freed after it.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "common/error.h"
#include "common/unique_fd.h"

struct io_uring;

namespace thermocline::memory {

class IoRing {
  public:
    struct Done {
        std::uint64_t token = 0;
        int result = 0;  ///< bytes, or -errno
    };

    /// For up to `entries` operations at a time. Error: permissionDenied, notSupported or outOfMemory; the
    /// message names what to do.
    static Result<std::unique_ptr<IoRing>> create(unsigned entries);
    ~IoRing();
    IoRing(const IoRing&) = delete;
    IoRing& operator=(const IoRing&) = delete;

    /// Starts an operation; `token` comes back with its result. REQUIRES: fewer than `entries` under way; the
    /// bytes stay until then. Error: systemError or busy where the kernel did not take it; nothing is under
    /// way for it then.
    Result<void> read(int file, std::span<std::byte> into, std::uint64_t offset, std::uint64_t token);
    Result<void> write(int file, std::span<const std::byte> from, std::uint64_t offset, std::uint64_t token);
    /// What has ended, at once.
    std::optional<Done> next();
    /// The same, waiting for it; nothing where nothing is under way.
    std::optional<Done> wait();
    [[nodiscard]] std::size_t underWay() const { return underWay_; }
    /// Readable when next() may have something. (any thread)
    [[nodiscard]] int event() const { return event_.get(); }
    /// Makes event() readable, or not. (any thread)
    void raiseEvent() const;
    void clearEvent() const;

  private:
    IoRing();
    Result<void> submit(void* entry, std::uint64_t token);

    UniqueFd event_;
    std::unique_ptr<io_uring> ring_;
    bool ready_ = false;  // ring_ is one
    std::size_t underWay_ = 0;
};

}  // namespace thermocline::memory
