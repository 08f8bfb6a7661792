// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "common/error.h"
#include "db/budget_store.h"

namespace thermocline {

// The host's budget as people write it. Plain functions; any thread.

/// "off", a share of the host's RAM ("75%", "0.75"; at most 100 %), or a size ("24GiB", with a unit).
/// invalidArgument.
Result<db::HostBudget> parseHostBudget(std::string_view text, std::uint64_t keepFree);
/// What parseHostBudget() turns into the same budget, keepFree apart.
std::string formatHostBudget(const db::HostBudget& budget);

}  // namespace thermocline
