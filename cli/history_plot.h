// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a domain's memory did, as an image. A plain function; any thread.

#include <string>

#include "cli/history_view.h"

namespace thermocline::cli {

/// A whole SVG 1.1 file: where the guest's memory was (resident, staged, cold, frozen, one on top of the
/// other, with used and limit as lines), stall, and faults per second, below each other over the same time.
/// Where nothing is known, nothing is drawn.
std::string historySvg(const HistoryView& view);

}  // namespace thermocline::cli
