// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"

namespace thermocline {

/// Where metrics are served: an address and a port, "127.0.0.1:9927".
struct MetricsAddress {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
    bool operator==(const MetricsAddress&) const = default;
    [[nodiscard]] std::string text() const;
    /// Nobody but this host's programs can ask there.
    [[nodiscard]] bool loopback() const;
};

/// "9927" (of the loopback), "127.0.0.1:9927", "[::1]:9927". invalidArgument. Any
/// thread.
Result<MetricsAddress> parseMetricsAddress(const std::string& text);

}  // namespace thermocline
