// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace thermocline {

/// What libvirt tells its hooks of a domain, as one datagram: the three texts, each ended by a NUL. Plain
/// data.
struct HookMessage {
    std::string operation;     ///< "prepare", "start", "started", "stopped", "release", "migrate", ...
    std::string subOperation;  ///< "begin" or "end"
    std::string domain;        ///< its name
    bool operator==(const HookMessage&) const = default;

    /// Longest datagram; what is longer is not sent.
    static constexpr std::size_t maxBytes = 1024;
    /// Of the socket, in the daemon's run-time directory.
    static constexpr const char* socketName = "hook.socket";

    [[nodiscard]] std::string encode() const;
    /// nullopt for anything that encode() does not make.
    static std::optional<HookMessage> decode(std::string_view datagram);
};

inline std::string HookMessage::encode() const {
    std::string datagram;
    for (const auto& part : {operation, subOperation, domain})
        datagram.append(part.c_str(), part.size() + 1);
    return datagram;
}

inline std::optional<HookMessage> HookMessage::decode(std::string_view datagram) {
    if (datagram.size() > maxBytes) return std::nullopt;
    HookMessage message;
    for (auto* const part : {&message.operation, &message.subOperation, &message.domain}) {
        const auto end = datagram.find('\0');
        if (end == std::string_view::npos) return std::nullopt;
        part->assign(datagram.substr(0, end));
        datagram.remove_prefix(end + 1);
    }
    if (!datagram.empty() || message.operation.empty() || message.domain.empty()) return std::nullopt;
    return message;
}

}  // namespace thermocline
