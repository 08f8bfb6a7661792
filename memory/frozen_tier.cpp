// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_tier.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "memory/status.h"

namespace thermocline::memory {

Result<std::unique_ptr<FrozenTier>> FrozenTier::create(FrozenTierOptions options) {
    auto store = FrozenStore::create(std::move(options.store));
    if (!store) return tl::unexpected(store.error());
    return std::unique_ptr<FrozenTier>(new FrozenTier(std::move(*store), options.age));
}

Result<std::unique_ptr<FrozenTier>> FrozenTier::recover(FrozenTierOptions options, FrozenStore::Kept kept) {
    auto store = FrozenStore::recover(std::move(options.store), std::move(kept));
    if (!store) return tl::unexpected(store.error());
    std::unique_ptr<FrozenTier> tier(new FrozenTier(std::move(*store), options.age));
    if (tier->closing()) tier->close();
    return tier;
}

FrozenTier::FrozenTier(std::unique_ptr<FrozenStore> store, std::chrono::milliseconds age)
    : store_(std::move(store)), age_(age), metadataBytes_(store_->status().metadataBytes) {}

// -------------------------------------------------------------------------------------------------------------
// fault thread

std::vector<FrozenTier::Read>::iterator FrozenTier::underWay(const FrozenRecord& record) {
    return std::ranges::find(reads_, record, &Read::record);
}

FrozenTier::Start FrozenTier::begin(const Read& read) {
    if (const auto before = underWay(read.record); before != reads_.end()) {
        // A page that comes back wakes everybody who waits for it; one of them sees to it that it does.
        if (read.faultWaits && !std::exchange(before->faultWaits, true)) ++faultsWaiting_;
        return Start::begun;
    }
    const auto begun = submit({&read, 1});
    if (!begun) {
        if (begun.error().code == ErrorCode::busy) return Start::busy;
        spdlog::critical("page {} cannot be read from the file tier: {}", read.record.page,
                         begun.error().message);
        return Start::refused;
    }
    if (read.faultWaits) ++faultsWaiting_;
    return Start::begun;
}

std::size_t FrozenTier::readAhead(std::span<const Read> reads) {
    std::size_t count = 0;
    while (count < reads.size() && reads_.size() < mostReadAhead && store_->freeReads() > readsForFaults) {
        if (const auto before = underWay(reads[count].record); before != reads_.end()) {
            before->toStore = before->toStore && reads[count].toStore;
            ++count;
            continue;
        }
        const auto isUnderWay = [&](const Read& read) { return underWay(read.record) != reads_.end(); };
        const auto left =
            reads.subspan(count, std::min(reads.size() - count, FrozenStore::mostRecordsInRead));
        const auto end = std::ranges::find_if(left, isUnderWay);
        const auto begun = submit({left.begin(), end});
        if (!begun && begun.error().code == ErrorCode::busy) break;
        // Whoever needs one that cannot be read will hear why.
        count += begun ? *begun : 1;
    }
    return count;
}

Result<std::size_t> FrozenTier::submit(std::span<const Read> reads) {
    records_.clear();
    for (const auto& read : reads)
        records_.push_back(read.record);
    auto begun = store_->submitRead(records_);
    if (!begun) return begun;
    reads_.insert(reads_.end(), reads.begin(), reads.begin() + static_cast<std::ptrdiff_t>(*begun));
    const std::lock_guard lock(mutex_);
    reading_ = true;
    return begun;
}

void FrozenTier::finish(const std::function<void(const Read&, const FrozenStore::ReadDone&)>& visit) {
    store_->completions([&](const FrozenStore::ReadDone& done) {
        const auto found = underWay(done.record);
        if (found == reads_.end()) return;
        const auto read = *found;
        reads_.erase(found);
        if (read.faultWaits) --faultsWaiting_;
        visit(read, done);
    });
    {
        const std::lock_guard lock(mutex_);
        reading_ = !reads_.empty();
    }
    settled();
}

std::optional<BlockNumber> FrozenTier::firstWanted() const {
    const std::lock_guard lock(mutex_);
    return wanted_.empty() ? std::nullopt : std::optional(wanted_.front());
}

void FrozenTier::dropFirst() {
    {
        const std::lock_guard lock(mutex_);
        wanted_.pop_front();
    }
    settled();
}

// -------------------------------------------------------------------------------------------------------------
// background thread

void FrozenTier::want(BlockNumber block) {
    const std::lock_guard lock(mutex_);
    wanted_.push_back(block);
}

void FrozenTier::awaitWanted(const std::function<bool()>& stop) {
    std::unique_lock lock(mutex_);
    settled_.wait(lock, [&] { return (wanted_.empty() && !reading_) || stop(); });
}

void FrozenTier::settled() {
    { const std::lock_guard lock(mutex_); }  // so that it cannot fall between a look and the wait after it
    settled_.notify_all();
}

Result<void> FrozenTier::tend() {
    auto written = store_->poll();
    metadataBytes_.store(store_->status().metadataBytes, std::memory_order_relaxed);
    return written;
}

Result<FrozenSlot> FrozenTier::put(PageNumber page, std::span<const std::byte> bytes) {
    auto slot = store_->put(page, bytes);
    if (!slot && slot.error().code == ErrorCode::busy) {
        (void)tend();
        slot = store_->put(page, bytes);
    }
    if (slot) {
        if (refusedUntil_ != std::chrono::steady_clock::time_point{}) setNote({});
        refusedUntil_ = {};
    } else if (slot.error().code != ErrorCode::busy) {
        refusedUntil_ = std::chrono::steady_clock::now() + pauseAfterFailure;
        setNote(slot.error().message);
    }
    return slot;
}

bool FrozenTier::open() const {
    return !shut_ && std::chrono::steady_clock::now() >= refusedUntil_;
}

void FrozenTier::shut(std::string why) {
    const std::lock_guard lock(mutex_);
    shut_ = true;
    say(std::move(why));
}

void FrozenTier::close() {
    store_->setClosing();
    shut(std::string(fileTierBeingEmptied));
}

/// What put() met. Who has shut the tier meanwhile has the last word.
void FrozenTier::setNote(std::string note) {
    const std::lock_guard lock(mutex_);
    if (!shut_) say(std::move(note));
}

/// REQUIRES: the lock.
void FrozenTier::say(std::string note) {
    if (note != note_ && !note.empty()) spdlog::warn("the file tier takes no more pages: {}", note);
    note_ = std::move(note);
}

std::string FrozenTier::note() const {
    const std::lock_guard lock(mutex_);
    return note_;
}

}  // namespace thermocline::memory
