// SPDX-License-Identifier: Apache-2.0
#pragma once

// The file tier's file: without a name, mode 0600, past the page cache (O_DIRECT), so all I/O is of whole
// sectors of 4 KiB from memory that is aligned like them. It lives as long as somebody has it open: besides
// us the VM's process, for reading only, so that another manager can go on. growTo() and empty() by one
// thread at a time; the rest is thread-safe.

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "common/error.h"
#include "common/unique_fd.h"

namespace thermocline::memory {

/// Where the outside world begins; each is the real thing unless a test puts its own there.
struct FrozenSeams {
    std::function<std::chrono::steady_clock::time_point()> now = std::chrono::steady_clock::now;
    std::function<int(const char* path, int flags, mode_t mode)> open;  ///< as open(2)
    /// What to take for the result (bytes or -errno) of an I/O at `offset`.
    std::function<int(bool write, std::uint64_t offset, int result)> ioDone;
};

class FrozenFile {
  public:
    /// Tells the file from any other that there is or was.
    struct Identity {
        std::uint64_t device = 0;
        std::uint64_t inode = 0;
        std::int64_t bornNanoseconds = 0;  ///< 0 where the file system does not know
        friend bool operator==(const Identity&, const Identity&) = default;
    };

    /// `allowBuffered`: through the page cache, in any directory. Error: notSupported where the directory is
    /// in memory or its file system has no O_DIRECT; permissionDenied; systemError.
    static Result<std::unique_ptr<FrozenFile>> create(const std::string& directory, bool allowBuffered,
                                                      FrozenSeams seams);

    /// The file behind a descriptor that was kept open, by whomever. Error: notSupported where it is not the
    /// one of that identity: nobody can have us write to another file; systemError.
    static Result<std::unique_ptr<FrozenFile>> take(UniqueFd kept, const Identity& identity,
                                                    bool allowBuffered, FrozenSeams seams);
    [[nodiscard]] Result<Identity> identity() const;
    /// A descriptor to be kept open elsewhere: it reads, through the page cache, and cannot write.
    [[nodiscard]] Result<UniqueFd> toKeep() const;
    /// Waits until no write is under way, of whatever process, and nothing is written to the file's bytes
    /// from `end` on, where the file system waits for direct I/O before it punches a hole (ext4, XFS). Where
    /// it does not, a late write may spoil a record, which its tag tells: the page is lost, never wrong.
    void awaitWrites(std::uint64_t end);

    /// REQUIRES of a write: growTo() its end before.
    Result<void> growTo(std::uint64_t end);
    /// Down to no byte. Error: systemError.
    Result<void> empty();
    /// Gives the disk its space back; false where the file system cannot. On an SSD this is also what says
    /// that the bytes are rubbish, where the file system is mounted to say so.
    bool giveBack(std::uint64_t offset, std::uint64_t bytes);
    /// Reads all of `into`, waiting for the disk. Error: systemError.
    Result<void> read(std::uint64_t offset, std::span<std::byte> into) const;

    [[nodiscard]] int descriptor() const { return file_.get(); }
    [[nodiscard]] const std::string& name() const { return name_; }  ///< for messages
    [[nodiscard]] std::chrono::steady_clock::time_point now() const { return seams_.now(); }
    /// The result of an I/O on descriptor(), as the seam wants it seen.
    [[nodiscard]] int seen(bool write, std::uint64_t offset, int result) const;

  private:
    FrozenFile(UniqueFd file, std::string name, FrozenSeams seams)
        : file_(std::move(file)), name_(std::move(name)), seams_(std::move(seams)) {}

    UniqueFd file_;
    std::string name_;
    FrozenSeams seams_;
    std::uint64_t size_ = 0;
};

}  // namespace thermocline::memory
