// SPDX-License-Identifier: Apache-2.0

// What is read as JSON from another process or from a file: statuses and errors of a manager, heat maps,
// attachment.json. Taken or refused by an exception of the JSON library, which each reader has to catch; what
// is taken is written and read again as the same.

#include <nlohmann/json.hpp>

#include "memory/attachment.h"
#include "memory/heat_map.h"
#include "memory/manager/protocol.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

template <typename T>
void readAndWrite(const nlohmann::json& json) {
    nlohmann::json written;
    try {
        written = json.get<T>();
    } catch (const nlohmann::json::exception&) {
        return;
    }
    const nlohmann::json again = written.get<T>();
    THERMOCLINE_HOLDS(written.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) ==
                      again.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace thermocline;
    if (size > manager::maxPacketBytes) return 0;
    const auto json = nlohmann::json::parse(data, data + size, nullptr, false);
    if (json.is_discarded()) return 0;
    readAndWrite<manager::Status>(json);
    readAndWrite<memory::Footprint>(json);
    readAndWrite<memory::HeatMap>(json);
    try {
        const auto error = manager::errorFromJson(json);
        THERMOCLINE_HOLDS(manager::errorToJson(error).at("message") == json.at("message"));
    } catch (const nlohmann::json::exception&) {
        return 0;
    }
    return 0;
}
