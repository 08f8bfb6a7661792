// SPDX-License-Identifier: Apache-2.0
#include "memory/neighbour_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>

namespace thermocline::memory {
namespace {

constexpr std::int64_t guestPages = 1 << 18;

/// A guest whose pages are all stored until they are brought, and go back to the store some time after.
class Guest {
  public:
    explicit Guest(NeighbourBlocks& blocks) : blocks_(blocks) {}

    void touch(std::int64_t page) {
        if (resident_.contains(page)) return;
        ++faults_;
        const auto block = blocks_.fault(page, [&](std::int64_t at) { return !resident_.contains(at); });
        EXPECT_LE(block.first, page);
        EXPECT_GT(block.first + block.count, page);
        EXPECT_EQ(block.first % block.count, 0);
        bring(page);
        for (auto at = block.first; at < block.first + block.count; ++at)
            if (!blocks_.leavesOut(at)) bring(at);
    }
    /// Each cluster in an order of its own, a page at a time.
    void touchClusters(std::int64_t pagesEach, int clusters) {
        std::vector<std::int64_t> order(static_cast<std::size_t>(pagesEach));
        for (; clusters > 0; --clusters) {
            const auto first = static_cast<std::int64_t>(random_() % guestPages) / pagesEach * pagesEach;
            std::iota(order.begin(), order.end(), first);
            std::shuffle(order.begin(), order.end(), random_);
            for (const auto page : order)
                touch(page);
        }
    }
    [[nodiscard]] std::uint64_t faults() const { return faults_; }

  private:
    void bring(std::int64_t page) {
        if (!resident_.insert(page).second) return;
        order_.push_back(page);
        if (order_.size() <= 4096) return;
        resident_.erase(order_.front());
        order_.pop_front();
    }

    NeighbourBlocks& blocks_;
    std::mt19937_64 random_{7};
    std::set<std::int64_t> resident_;
    std::deque<std::int64_t> order_;
    std::uint64_t faults_ = 0;
};

TEST(NeighbourBlocks, nothingIsBroughtAlongWithPagesTouchedAtRandom) {
    NeighbourBlocks blocks;
    Guest guest(blocks);
    guest.touchClusters(1, 20'000);
    EXPECT_EQ(blocks.pages(), 1U);
}

TEST(NeighbourBlocks, blocksGrowToWhatIsTouchedTogetherAndNotBeyond) {
    NeighbourBlocks blocks;
    Guest guest(blocks);
    guest.touchClusters(8, 2'000);
    EXPECT_EQ(blocks.pages(), 8U);
    const auto before = guest.faults();
    guest.touchClusters(8, 1'000);
    EXPECT_LT(guest.faults() - before, 3'000U) << "of 8000 pages, a fault for each block and one left out";
}

TEST(NeighbourBlocks, whatHasBecomeUselessIsSwitchedOff) {
    NeighbourBlocks blocks;
    Guest guest(blocks);
    guest.touchClusters(64, 500);
    EXPECT_EQ(blocks.pages(), NeighbourBlocks::mostPages);
    guest.touchClusters(1, 20'000);
    EXPECT_EQ(blocks.pages(), 1U);
}

TEST(NeighbourBlocks, whatIsThereAlreadyIsNoNeighbourToAskAbout) {
    NeighbourBlocks blocks;
    for (std::int64_t page = 0; page < 10'000; ++page)
        EXPECT_EQ(blocks.fault(page * 2, [](std::int64_t) { return false; }).count, 1U);
}

}  // namespace
}  // namespace thermocline::memory
