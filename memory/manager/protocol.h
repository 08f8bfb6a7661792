// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the daemon and the manager process of one VM say to each other; docs/manager-protocol.md is the
// prose. One JSON object per packet over a UNIX SOCK_SEQPACKET socket. Plain data, no threads.

#include <cstddef>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "memory/status.h"

namespace thermocline::manager {

/// Largest packet either side sends, in bytes.
inline constexpr std::size_t maxPacketBytes = 64 * 1024;

/// Names of the files in a VM's state directory (/run/thermocline/domain/<uuid>/).
inline constexpr const char* socketFileName = "manager.sock";
inline constexpr const char* attachmentFileName = "attachment.json";

using memory::Status;

/// {"name": ..., "message": ...} and back.
nlohmann::json errorToJson(const Error& error);
Error errorFromJson(const nlohmann::json& json);

}  // namespace thermocline::manager
