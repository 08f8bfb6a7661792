// SPDX-License-Identifier: Apache-2.0
#pragma once

// How many neighbours to bring along with a page that belongs to no stream, by what that has been good for.
// Whether the guest touches a page that is there cannot be seen; whether it faults on one that is not there
// can. So one page of each block, and one of the block beside it, are left out and watched: where they are
// wanted soon after, the others would have been, too, and blocks of twice the size are tried; where they are
// not, blocks become smaller, down to the page itself, which costs nothing but the watching. Pure logic, no
// clock; not thread-safe.

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>

namespace thermocline::memory {

class NeighbourBlocks {
  public:
    static constexpr unsigned mostPages = 32;

    /// An aligned block of `count` pages, a power of two.
    struct Block {
        std::int64_t first = 0;
        unsigned count = 1;
    };
    /// A fault on `page` (address / 4096) that the store had to serve. `stored`: would that page be brought?
    Block fault(std::int64_t page, const std::function<bool(std::int64_t)>& stored);

    /// Is that page not to be brought along?
    [[nodiscard]] bool leavesOut(std::int64_t page) const;
    [[nodiscard]] unsigned pages() const { return pages_; }

  private:
    enum class Question : std::size_t { larger, asLarge };
    struct Watched {
        std::int64_t page = 0;
        std::uint64_t until = 0;  ///< in faults
        Question question = Question::larger;
    };
    struct Tally {
        unsigned asked = 0;
        unsigned wanted = 0;
    };
    void look(std::int64_t page);
    void settle(Question question, bool wanted);
    void watch(std::int64_t page, Question question);
    void resize(unsigned pages);
    std::int64_t oneOf(std::int64_t first);

    unsigned pages_ = 1;
    std::uint64_t faults_ = 0;
    std::uint64_t random_ = 1;
    std::deque<Watched> watched_;  // oldest first
    std::array<Tally, 2> tallies_{};
};

}  // namespace thermocline::memory
