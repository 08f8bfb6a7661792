// SPDX-License-Identifier: Apache-2.0
#include "memory/heat_map.h"

#include <nlohmann/json.hpp>

#include "memory/json_fields.h"

namespace thermocline::memory {

// As arrays, a piece in four numbers: a map of many pieces has to fit into one packet.
void to_json(nlohmann::json& json, const HeatMap& map) {
    json = {{"working_set_bytes", map.workingSetBytes}, {"pieces", nlohmann::json::array()}};
    for (const auto& piece : map.pieces)
        json["pieces"].push_back({piece.hot, piece.resident, piece.staged, piece.cold});
}

void from_json(const nlohmann::json& json, HeatMap& map) {
    readField(json.at("working_set_bytes"), map.workingSetBytes);
    map.pieces.clear();
    for (const auto& piece : json.at("pieces"))
        map.pieces.push_back({readField<std::uint32_t>(piece.at(0)), readField<std::uint32_t>(piece.at(1)),
                              readField<std::uint32_t>(piece.at(2)), readField<std::uint32_t>(piece.at(3))});
}

}  // namespace thermocline::memory
