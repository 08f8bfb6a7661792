// SPDX-License-Identifier: Apache-2.0
#pragma once

// Where a VM's memory is hot, as text, as an SVG image and as JSON. A cell is a piece of the guest's RAM and
// shows the state that most of its pages are in. Plain functions; any thread.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/output.h"
#include "memory/heat_map.h"

namespace thermocline::cli {

struct HeatView {
    std::string domain;             ///< its name, for the title
    std::uint64_t memoryBytes = 0;  ///< guest RAM; all pieces together
    memory::HeatMap map;
};

/// How many cells a line has.
inline constexpr std::size_t heatColumns = 64;

/// Lines with '\n': a title, rows of cells with the address that they begin at, a legend. With colours a cell
/// is shaded and coloured; without, each state has an ASCII character of its own.
std::string heatText(const HeatView& view, const Style& style);
/// A whole SVG 1.1 file: a title, one rectangle per cell with its figures as tooltip, a legend.
std::string heatSvg(const HeatView& view);
/// Pieces as objects, in 4 KiB pages.
nlohmann::json heatJson(const HeatView& view);

}  // namespace thermocline::cli
