// SPDX-License-Identifier: Apache-2.0

// Example of a policy: the working-set window (P. Denning, "The Working Set Model for Program Behavior",
// 1968), in blocks of 2 MiB. What the guest was last seen to use longest ago goes first, and what it was seen
// to use within the window (option window=SECONDS, 60 where not given) is left alone. The built-in clock goes
// round by address instead, and forgets a page's past once it is in the store.

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "policy.hpp"

namespace {

using namespace thermocline::policy;
using std::chrono::milliseconds;

class Window final : public Policy {
  public:
    Window(Context context, const Options& options) : context_(context) {
        for (const auto& [key, value] : options) {
            if (key != "window") throw std::invalid_argument("unknown option \"" + key + "\"");
            window_ = std::chrono::seconds(std::stoul(value));
        }
        if (window_ < std::chrono::seconds(1) || window_ > std::chrono::hours(24))
            throw std::invalid_argument("window: 1 to 86400 seconds");
        lastUse_.resize(context_.statistics().blocks);
        context_.setTimer(0, refresh);
        publish();
    }

    void fault(PageNumber page, PageState) override { used(blockOf(page)); }
    void touched(PageNumber page) override { used(blockOf(page)); }
    void tick(std::uint32_t) override { publish(); }

  private:
    static constexpr milliseconds refresh{100};

    /// Many faults a tick are one use: what is done for each of them is next to nothing.
    void used(BlockNumber block) {
        if (lastUse_[block] == now_) return;
        lastUse_[block] = now_;
        context_.keep({block, 1}, window_);
    }

    /// The order in which blocks are to go: seen longest ago first, those that were never seen before all
    /// others, from the end of RAM down. The window itself is not on the list: the engine comes to it last.
    void publish() {
        now_ = context_.statistics().time_ms;
        const auto window = static_cast<std::uint64_t>(window_.count());
        const auto since = now_ > window ? now_ - window : 0;
        std::vector<BlockNumber> blocks(lastUse_.size());
        std::iota(blocks.rbegin(), blocks.rend(), BlockNumber{0});
        std::erase_if(blocks, [&](BlockNumber block) { return lastUse_[block] > since; });
        std::stable_sort(blocks.begin(), blocks.end(),
                         [&](BlockNumber a, BlockNumber b) { return lastUse_[a] < lastUse_[b]; });
        std::vector<Blocks> order;
        for (const auto block : blocks) {
            if (order.size() == THERMOCLINE_POLICY_MOST_RANGES) break;
            order.push_back({block, 1});
        }
        context_.stage(order);
    }

    Context context_;
    milliseconds window_ = std::chrono::seconds(60);
    std::uint64_t now_ = 0;               // ms, of the last tick
    std::vector<std::uint64_t> lastUse_;  // of each block, likewise; 0 = not seen yet
};

}  // namespace

THERMOCLINE_EXPORT_POLICY(Window, "window");
