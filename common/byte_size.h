// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/error.h"

namespace thermocline {

/// Parses a size as people write it: a non-negative decimal number, with or without a fraction, then an
/// optional unit: B, K/KiB, M/MiB, G/GiB, T/TiB (powers of 1024, any case; "KB", "MB", ... are powers of
/// 1000 as in virsh). No unit means bytes. Error: invalidArgument, for anything else and for overflow.
Result<std::uint64_t> parseByteSize(std::string_view text);

/// For people: "0 B", "12.5 MiB", "3.0 GiB"; one decimal, powers of 1024.
std::string formatByteSize(std::uint64_t bytes);

}  // namespace thermocline
