// SPDX-License-Identifier: Apache-2.0
#include "daemon/metrics_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>

namespace thermocline {

std::string MetricsAddress::text() const {
    const bool six = host.find(':') != std::string::npos;
    return six ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

bool MetricsAddress::loopback() const {
    return host == "::1" || host.starts_with("127.");
}

Result<MetricsAddress> parseMetricsAddress(const std::string& text) {
    const auto bad = [&] {
        return fail(
            ErrorCode::invalidArgument,
            fmt::format("\"{}\" is no address for metrics; write a port (9927), or an address and a port "
                        "(127.0.0.1:9927, [::1]:9927)",
                        text));
    };
    MetricsAddress address;
    const auto colon = text.rfind(':');
    const std::string port = colon == std::string::npos ? text : text.substr(colon + 1);
    if (colon != std::string::npos) address.host = text.substr(0, colon);
    const bool six = address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']';
    if (six) address.host = address.host.substr(1, address.host.size() - 2);
    in6_addr binary{};
    if (::inet_pton(six ? AF_INET6 : AF_INET, address.host.c_str(), &binary) != 1) return bad();
    const auto [rest, status] = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (status != std::errc{} || rest != port.data() + port.size() || address.port == 0) return bad();
    return address;
}

}  // namespace thermocline
