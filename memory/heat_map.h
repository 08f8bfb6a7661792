// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where a VM's memory is hot: its pages by state and heat, in so many equal pieces of its page number space.
// Plain data, no threads.

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

namespace thermocline::memory {

struct HeatMap {
    /// 4 KiB pages of one piece. What is not counted here was never touched, or given back by the guest.
    struct Piece {
        std::uint32_t hot = 0;       ///< in guest RAM, and touched the last time that it was staged
        std::uint32_t resident = 0;  ///< in guest RAM, not probed since it came there
        std::uint32_t staged = 0;    ///< moved aside, on probation
        std::uint32_t cold = 0;      ///< in the store
    };
    static constexpr std::size_t mostPieces = 1024;  ///< so that it fits into a packet
    std::vector<Piece> pieces;
    /// Hot and resident pages: no less than the guest's working set, and close to it once all memory has been
    /// probed.
    std::uint64_t workingSetBytes = 0;
};

void to_json(nlohmann::json& json, const HeatMap& map);
void from_json(const nlohmann::json& json, HeatMap& map);

}  // namespace thermocline::memory
