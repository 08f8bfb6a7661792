// SPDX-License-Identifier: Apache-2.0
#include "memory/neighbour_blocks.h"

#include <algorithm>

namespace thermocline::memory {
namespace {

/// What is wanted at all is wanted within so many faults; few enough for pages that are touched at random to
/// come back sooner by chance only in the smallest of guests.
constexpr std::uint64_t soon = 512;
constexpr std::size_t mostWatched = 64;
constexpr unsigned questionsPerStep = 32;
/// A page that is brought in vain pushes out another, which costs as much as a fault.
constexpr unsigned wantedToGrow = questionsPerStep / 2;
constexpr unsigned wantedToStay = questionsPerStep / 4;

std::int64_t alignDown(std::int64_t page, std::int64_t to) {
    return page & ~(to - 1);
}

}  // namespace

NeighbourBlocks::Block NeighbourBlocks::fault(std::int64_t page,
                                              const std::function<bool(std::int64_t)>& stored) {
    ++faults_;
    look(page);
    const Block block{alignDown(page, pages_), pages_};
    if (watched_.size() + 2 > mostWatched) return block;
    if (pages_ < mostPages) {
        const auto beside = oneOf(block.first ^ static_cast<std::int64_t>(pages_));
        if (stored(beside)) watch(beside, Question::larger);
    }
    const auto within = oneOf(block.first);
    if (within != page && stored(within)) watch(within, Question::asLarge);
    return block;
}

bool NeighbourBlocks::leavesOut(std::int64_t page) const {
    return std::any_of(watched_.begin(), watched_.end(),
                       [&](const Watched& watched) { return watched.page == page; });
}

/// Answers what the fault on `page` answers, and what was not wanted in time.
void NeighbourBlocks::look(std::int64_t page) {
    const auto found = std::find_if(watched_.begin(), watched_.end(),
                                    [&](const Watched& watched) { return watched.page == page; });
    if (found != watched_.end()) {
        const auto question = found->question;
        watched_.erase(found);
        settle(question, true);
    }
    while (!watched_.empty() && watched_.front().until < faults_) {
        const auto question = watched_.front().question;
        watched_.pop_front();
        settle(question, false);
    }
}

void NeighbourBlocks::settle(Question question, bool wanted) {
    auto& tally = tallies_[static_cast<std::size_t>(question)];
    ++tally.asked;
    if (wanted) ++tally.wanted;
    if (tally.asked < questionsPerStep) return;
    const auto result = tally.wanted;
    tally = {};
    if (question == Question::larger && result >= wantedToGrow) resize(pages_ * 2);
    if (question == Question::asLarge && result < wantedToStay) resize(pages_ / 2);
}

void NeighbourBlocks::watch(std::int64_t page, Question question) {
    if (!leavesOut(page)) watched_.push_back({page, faults_ + soon, question});
}

/// What was watched belongs to blocks of the former size.
void NeighbourBlocks::resize(unsigned pages) {
    pages_ = pages;
    watched_.clear();
    tallies_ = {};
}

/// A page of the block at `first`, by chance (a linear congruential generator is chance enough).
std::int64_t NeighbourBlocks::oneOf(std::int64_t first) {
    random_ = random_ * 6364136223846793005U + 1442695040888963407U;
    return first + static_cast<std::int64_t>((random_ >> 33) % pages_);
}

}  // namespace thermocline::memory
