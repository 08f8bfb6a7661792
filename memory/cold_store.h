// SPDX-License-Identifier: Apache-2.0
#pragma once

// The compressed pages of one VM, in a file of its state directory (tmpfs: "cold" is still memory).
// docs/store-format.md describes the file. put and release are thread-safe; get needs no lock: who asks holds
// the page's block lock in the pager, so the slot cannot be released meanwhile.

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/page.h"
#include "memory/page_codec.h"
#include "memory/slot_allocator.h"

namespace thermocline::memory {

class ColdStore {
  public:
    /// An empty store in a new file `path` (mode 0600) for at most `maxBytes` of slots.
    static Result<std::unique_ptr<ColdStore>> create(const std::string& path, std::uint64_t maxBytes);

    /// Writes one page's compressed bytes. Error: outOfMemory where the file system or the arena is full.
    Result<Slot> put(PageNumber page, std::span<const std::byte> compressed);
    /// Reads and decompresses. Error: systemError where the file cannot be read, or where the slot does not
    /// hold the bytes that put() wrote for this page; `into` is then not to be used.
    Result<void> get(PageNumber page, Slot slot, PageCodec& codec, MutablePageBytes into) const;
    void release(Slot slot);
    /// Gives back memory that is kept for quick reuse.
    void trim();

    [[nodiscard]] std::uint64_t storedBytes() const;  ///< memory that the file takes
    [[nodiscard]] std::uint64_t slotBytes() const;    ///< of it, bytes in slots
    [[nodiscard]] std::uint64_t metadataBytes() const;

  private:
    ColdStore(UniqueFd file, std::string path, std::uint64_t maxBytes);

    UniqueFd file_;
    std::string path_;
    mutable std::mutex mutex_;  // guards allocator_
    SlotAllocator allocator_;
};

}  // namespace thermocline::memory
