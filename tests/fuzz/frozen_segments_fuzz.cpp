// SPDX-License-Identifier: Apache-2.0

// The file tier's book-keeping under any order of steps, against a plain map of what is live; and slots that
// it never gave out.

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "memory/frozen_segments.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace thermocline::memory;

class Model {
  public:
    void step(thermocline::fuzz::Input& input) {
        switch (input.number(1) % 8) {
            case 0:
                if (!open_) open_ = segments_.open(0);
                break;
            case 1:
            case 2:
            case 3:
                append(input.number(2), input.number(2) % pageBytes + 1);
                break;
            case 4:
                if (open_ && segments_.seal(*open_)) writing_.push_back(*open_);
                open_.reset();
                break;
            case 5:
                if (writing_.empty()) break;
                if (input.number(1) % 4 == 0)
                    segments_.failed(writing_.back());
                else
                    segments_.written(writing_.back());
                writing_.pop_back();
                break;
            case 6:
                release(input.number(2));
                break;
            default:
                if (const auto spent = segments_.takeSpent()) segments_.becameHole(*spent);
                break;
        }
        const FrozenSlot made{input.number(3), static_cast<std::uint32_t>(input.number(2) % 8192)};
        THERMOCLINE_HOLDS(segments_.holds(7, made) ==
                          (live_.contains(made.packed()) && live_[made.packed()] == 7));
    }
    void check() const {
        for (const auto& [packed, page] : live_)
            THERMOCLINE_HOLDS(segments_.holds(page, FrozenSlot::unpacked(packed)) &&
                              !segments_.holds(page + 1, FrozenSlot::unpacked(packed)));
    }

  private:
    void append(PageNumber page, std::size_t bytes) {
        if (!open_ || !segments_.fits(*open_, bytes)) return;
        const auto slot = segments_.append(*open_, page, bytes);
        THERMOCLINE_HOLDS(slot.bytes == bytes && FrozenSegments::segmentOf(slot) == *open_);
        THERMOCLINE_HOLDS(live_.emplace(slot.packed(), page).second);
    }
    void release(std::uint64_t choice) {
        if (live_.empty()) return;
        auto chosen = live_.lower_bound(choice << 13);
        if (chosen == live_.end()) chosen = live_.begin();
        const auto slot = FrozenSlot::unpacked(chosen->first);
        live_.erase(chosen);
        THERMOCLINE_HOLDS(segments_.release(slot));
        THERMOCLINE_HOLDS(!segments_.release(slot));
    }

    FrozenSegments segments_{16U << 20};
    std::optional<FrozenSegments::Index> open_;
    std::vector<FrozenSegments::Index> writing_;
    std::map<std::uint64_t, PageNumber> live_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    thermocline::fuzz::Input input(data, size);
    Model model;
    for (int i = 0; i < 2000 && !input.empty(); ++i)
        model.step(input);
    model.check();
    return 0;
}
