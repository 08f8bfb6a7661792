// SPDX-License-Identifier: Apache-2.0
#pragma once

// The file tier as the pager sees it: the store, the reads that are under way and who waits for them, and
// the blocks that are to come back unasked. A record is a slot of the cold store, byte for byte, or a page
// that does not compress, as it is.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "memory/frozen_store.h"
#include "memory/page.h"

namespace thermocline::memory {

struct FrozenTierOptions {
    FrozenOptions store;
    /// A page goes to the file once nothing of its block was wanted for this long, or for less where the
    /// guest's memory comes and goes quickly.
    std::chrono::milliseconds age = std::chrono::seconds(10);
};

class FrozenTier {
  public:
    struct Read {
        FrozenRecord record;
        VmAddress address;        ///< that the page had when the read began
        bool faultWaits = false;  ///< else it was begun ahead of any
        bool toStore = false;     ///< as long as none waits, the page is to be cold again, no more
    };
    enum class Start { begun, busy, refused };

    /// An empty tier. Error: as FrozenStore::create().
    static Result<std::unique_ptr<FrozenTier>> create(FrozenTierOptions options);
    /// The tier of a manager that is dead; its records are to be claimed first. Error: as
    /// FrozenStore::recover().
    static Result<std::unique_ptr<FrozenTier>> recover(FrozenTierOptions options, FrozenStore::Kept kept);

    [[nodiscard]] FrozenStore& store() { return *store_; }
    [[nodiscard]] std::chrono::milliseconds age() const { return age_; }

    // -- fault thread --
    /// REQUIRES: the lock of the page's block. `busy`: as many as may be are under way. `refused`: there is
    /// no such record.
    Start begin(const Read& read);
    /// The same for what nobody waits for yet, as many with one read of the disk as lie together there.
    /// Returns how many of them, from the first on, need not be tried again.
    std::size_t readAhead(std::span<const Read> reads);
    /// Calls `visit` for each read that has ended. Readable when there is one: store().readEvent().
    void finish(const std::function<void(const Read&, const FrozenStore::ReadDone&)>& visit);
    [[nodiscard]] bool faultsWait() const { return faultsWaiting_ > 0; }
    /// The block that is to come back first; dropFirst() once reads of all its pages were begun.
    [[nodiscard]] std::optional<BlockNumber> firstWanted() const;
    void dropFirst();

    // -- background thread --
    /// The frozen pages of `block` are to be brought back; the fault thread has to be woken.
    void want(BlockNumber block);
    /// Waits until all that was wanted has been tried, or `stop`; who makes that true calls settled().
    void awaitWanted(const std::function<bool()>& stop);
    /// Takes note of what was written. Error: a write failed; store().failedRecords() are in memory only.
    Result<void> tend();
    /// Error: busy where the disk is behind; else why the tier takes no more, which note() says, too.
    Result<FrozenSlot> put(PageNumber page, std::span<const std::byte> bytes);
    /// May put() work? Not for a while after it failed, and not once shut.
    [[nodiscard]] bool open() const;

    // -- any thread --
    void settled();
    /// Takes no more pages from now on, and says why.
    void shut(std::string why);
    /// It is to be emptied and ended, by us or by the next manager.
    void close();
    [[nodiscard]] bool closing() const { return store_->closing(); }
    /// Why it takes no more, for a person; empty where it does.
    [[nodiscard]] std::string note() const;
    /// Memory that it takes.
    [[nodiscard]] std::uint64_t metadataBytes() const {
        return metadataBytes_.load(std::memory_order_relaxed);
    }

  private:
    FrozenTier(std::unique_ptr<FrozenStore> store, std::chrono::milliseconds age);
    [[nodiscard]] std::vector<Read>::iterator underWay(const FrozenRecord& record);
    Result<std::size_t> submit(std::span<const Read> reads);
    void setNote(std::string note);
    void say(std::string note);

    static constexpr std::size_t mostReadAhead = 128;  // pages: the largest window of a stream
    static constexpr std::size_t readsForFaults = 16;
    static constexpr auto pauseAfterFailure = std::chrono::seconds(10);

    std::unique_ptr<FrozenStore> store_;
    std::chrono::milliseconds age_;
    std::vector<Read> reads_;  // fault thread, like the next two
    std::vector<FrozenRecord> records_;
    std::size_t faultsWaiting_ = 0;                         // of them
    std::chrono::steady_clock::time_point refusedUntil_{};  // background thread
    std::atomic<std::uint64_t> metadataBytes_{0};
    std::atomic<bool> shut_{false};

    mutable std::mutex mutex_;  // guards what follows
    std::condition_variable settled_;
    std::deque<BlockNumber> wanted_;
    bool reading_ = false;  // something is under way
    std::string note_;
};

}  // namespace thermocline::memory
