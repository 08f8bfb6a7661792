// SPDX-License-Identifier: Apache-2.0
#include "memory/manager/protocol.h"

namespace thermocline::manager {

nlohmann::json errorToJson(const Error& error) {
    return {{"name", errorName(error.code)}, {"message", error.message}};
}

Error errorFromJson(const nlohmann::json& json) {
    return Error{errorCodeFromName(json.at("name").get<std::string>()),
                 json.at("message").get<std::string>()};
}

}  // namespace thermocline::manager
