// SPDX-License-Identifier: Apache-2.0
#pragma once

// What must outlive a manager of its file tier, besides the pages' entries (page_map.h), the key
// (frozen_key.h) and the file itself: which filling each segment has, and the segments that are not on the
// disk yet. A file of the VM's state directory, mapped by the manager; nothing in it is secret, as records
// are encrypted before they come here. docs/store-format.md describes it.
//
// Each fact is one store, and is written before anything that rests on it: a segment's serial before its
// first record, a record's bytes before its page's entry says "frozen"; a buffer is given up only after its
// segment is on the disk. So a SIGKILL between any two stores leaves what is true, or a segment in a buffer
// that is on the disk as well, with the same bytes. Not thread-safe, but for the buffers' bytes.

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/day_budget.h"
#include "memory/frozen_file.h"
#include "memory/frozen_segments.h"

namespace thermocline::memory {

class FrozenLedger {
  public:
    static constexpr std::size_t mostBuffers = 65;
    static constexpr FrozenSegments::Index none = UINT32_MAX;

    /// A new file `path` (mode 0600), for a tier of up to `maxFileBytes`; without a path it ends with this
    /// process. It takes memory for a buffer from its first use on. Error: outOfMemory where there is no
    /// room, systemError.
    static Result<std::unique_ptr<FrozenLedger>> create(const std::string& path, std::size_t buffers,
                                                        std::uint64_t maxFileBytes);
    /// What a manager left that is dead by now. Errors: notAttached where it has left none; notSupported for
    /// another format.
    static Result<std::unique_ptr<FrozenLedger>> open(const std::string& path);
    ~FrozenLedger();
    FrozenLedger(const FrozenLedger&) = delete;
    FrozenLedger& operator=(const FrozenLedger&) = delete;

    [[nodiscard]] std::size_t buffers() const;
    /// Room for one segment, aligned to pages. Not to be written to before reserveBuffer().
    [[nodiscard]] std::byte* buffer(std::size_t index) const;
    /// Error: outOfMemory where there is no memory for it.
    Result<void> reserveBuffer(std::size_t index);
    /// Whose bytes a buffer has; none: nobody's.
    [[nodiscard]] FrozenSegments::Index segmentIn(std::size_t index) const;
    void setSegment(std::size_t index, FrozenSegments::Index segment);
    /// The segment is being filled anew. Error: outOfMemory where there is no memory for it, or more segments
    /// than were planned for.
    Result<void> setSerial(FrozenSegments::Index segment, std::uint64_t serial);
    /// Of all segments up to the last that was ever filled; 0 where one never was.
    [[nodiscard]] std::span<const std::uint64_t> serials() const;

    [[nodiscard]] DayBudget& written();
    [[nodiscard]] FrozenFile::Identity file() const;
    void setFile(const FrozenFile::Identity& file);
    /// Somebody wants the tier emptied and ended; its next manager goes on with that.
    [[nodiscard]] bool closing() const;
    void setClosing();

    /// Memory that it takes.
    [[nodiscard]] std::uint64_t bytes() const;

  private:
    struct Header;
    FrozenLedger(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
    Result<void> map(std::uint64_t bytes);
    Result<void> reserve(std::uint64_t from, std::uint64_t bytes);
    [[nodiscard]] std::uint64_t* table() const;

    UniqueFd fd_;
    std::string name_;
    Header* header_ = nullptr;
    std::uint64_t mapped_ = 0;  // bytes
    // What is reserved: a page that is not may be refused.
    std::uint64_t tableEnd_ = 0;  // of the table, from its start to here in the file
    std::bitset<mostBuffers> reservedBuffers_;
};

}  // namespace thermocline::memory
