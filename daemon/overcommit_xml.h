// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/error.h"
#include "db/policy_store.h"

namespace thermocline {

// The element that a domain's XML metadata may have for us (docs/virsh.md; its schema is
// docs/thermocline-domain.rng): <overcommit limit="2GiB" max-stall="0.5%" min-resident="512MiB"
// priority="200"/>. Plain functions; any thread.

/// Namespace of the element, and the prefix that libvirt writes it with.
inline constexpr const char* metadataNamespace = "http://thermocline.org/xmlns/libvirt/domain/1.0";
inline constexpr const char* metadataKey = "thermocline";

/// What the element asks for; `managed` is always true. Whether a limit suits the domain's RAM is not known
/// here. Error: invalidArgument, with the attribute and what it may be, for whatever the schema does not
/// allow.
Result<db::Policy> parseOvercommit(std::string_view xml);

/// The value of freeze-paused, in seconds: "30s", "5m", "1h", up to that. Error: invalidArgument.
inline constexpr std::chrono::seconds longestFreezePaused = std::chrono::hours(24 * 364);
Result<std::uint32_t> parseFreezePaused(std::string_view text);

/// The element that parseOvercommit() turns into exactly this policy. REQUIRES: policy.managed.
std::string formatOvercommit(const db::Policy& policy);

}  // namespace thermocline
