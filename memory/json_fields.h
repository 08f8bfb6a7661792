// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reads fields of JSON objects that another process wrote. Plain functions, thread-safe.

#include <nlohmann/json.hpp>
#include <type_traits>

namespace thermocline::memory {

/// As get_to(), but a whole number is read from nothing else: the library would convert any number, also one
/// that the type does not hold, which is undefined. Throws nlohmann::json::exception, as get_to() does.
template <typename T>
void readField(const nlohmann::json& json, T& value) {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
        if (!json.is_number_integer())
            throw nlohmann::json::type_error::create(302, "a whole number is expected", &json);
    json.get_to(value);
}

template <typename T>
T readField(const nlohmann::json& json) {
    T value{};
    readField(json, value);
    return value;
}

}  // namespace thermocline::memory
