// SPDX-License-Identifier: Apache-2.0
#include "cli/heat_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "cli/image_file.h"
#include "common/byte_size.h"

namespace thermocline::cli {
namespace {

constexpr std::uint64_t pageBytes = 4096;

struct Look {
    const char* name;
    const char* plain;   ///< its cell where there are no colours
    const char* shaded;  ///< where there are
    Colour colour;
    const char* fill;  ///< in SVG
};
/// From hot to never touched. The colours are told apart by those who do not see red and green, too.
constexpr std::array looks{
    Look{"hot", "#", "█", Colour::bad, "#d7191c"}, Look{"resident", "o", "▓", Colour::warning, "#fdae61"},
    Look{"staged", "-", "▒", Colour::cool, "#abd9e9"}, Look{"cold", ".", "░", Colour::cold, "#2c7bb6"},
    Look{"untouched", " ", " ", Colour::none, "#e8e8e8"}};
constexpr std::size_t states = looks.size();
using Pages = std::array<std::uint64_t, states>;

std::uint64_t pieceBytes(const HeatView& view) {
    return view.map.pieces.empty() ? 0 : view.memoryBytes / view.map.pieces.size();
}

Pages pagesOf(const HeatView& view, const memory::HeatMap::Piece& piece) {
    Pages pages{piece.hot, piece.resident, piece.staged, piece.cold, 0};
    const std::uint64_t known = pages[0] + pages[1] + pages[2] + pages[3];
    const std::uint64_t all = pieceBytes(view) / pageBytes;
    pages.back() = all > known ? all - known : 0;
    return pages;
}

/// Of states with as many pages the hotter one: rather too hot than too cold.
std::size_t stateOf(const Pages& pages) {
    return static_cast<std::size_t>(std::max_element(pages.begin(), pages.end()) - pages.begin());
}

Pages sums(const HeatView& view) {
    Pages sum{};
    for (const auto& piece : view.map.pieces) {
        const auto pages = pagesOf(view, piece);
        for (std::size_t i = 0; i < states; ++i)
            sum.at(i) += pages.at(i);
    }
    return sum;
}

std::string title(const HeatView& view) {
    return fmt::format("{}: {} in {} pieces of {}, working set at most {}", view.domain,
                       formatByteSize(view.memoryBytes), view.map.pieces.size(),
                       formatByteSize(pieceBytes(view)), formatByteSize(view.map.workingSetBytes));
}

std::string address(const HeatView& view, std::size_t piece) {
    return formatByteSize(view.memoryBytes * piece / view.map.pieces.size());
}

}  // namespace

std::string heatText(const HeatView& view, const Style& style) {
    const auto cell = [&](const Look& look) { return style.coloured() ? look.shaded : look.plain; };
    std::string text = title(view) + "\n\n";
    const auto& pieces = view.map.pieces;
    for (std::size_t begin = 0; begin < pieces.size(); begin += heatColumns) {
        text += fmt::format("{:>10} |", address(view, begin));
        const std::size_t end = std::min(begin + heatColumns, pieces.size());
        for (std::size_t i = begin; i < end;) {
            // Neighbours that look the same are painted at once.
            const std::size_t state = stateOf(pagesOf(view, pieces[i]));
            std::string run;
            for (; i < end && stateOf(pagesOf(view, pieces[i])) == state; ++i)
                run += cell(looks.at(state));
            text += style.paint(run, looks.at(state).colour);
        }
        text += "|\n";
    }
    text += "\n          ";
    const auto sum = sums(view);
    for (std::size_t i = 0; i < states; ++i)
        text +=
            fmt::format(" {} {} {} ", style.paint(fmt::format("[{}]", cell(looks.at(i))), looks.at(i).colour),
                        looks.at(i).name, formatByteSize(sum.at(i) * pageBytes));
    text.back() = '\n';
    return text;
}

std::string heatSvg(const HeatView& view) {
    constexpr std::size_t side = 12;  // of a cell, with its gap
    constexpr std::size_t gap = 1;
    constexpr std::size_t left = 80;
    constexpr std::size_t top = 48;
    constexpr std::size_t margin = 20;
    constexpr std::size_t legendStep = 160;
    const auto& pieces = view.map.pieces;
    const std::size_t rows = (pieces.size() + heatColumns - 1) / heatColumns;
    const std::size_t width = left + heatColumns * side + margin;
    const std::size_t legend = top + rows * side + margin;
    const std::size_t height = legend + side + margin;

    std::string svg = fmt::format(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
        "font-family=\"sans-serif\" font-size=\"11\">\n"
        "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n"
        "<text x=\"{2}\" y=\"28\" font-size=\"15\">{3}</text>\n",
        width, height, margin, xmlText(title(view)));
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        const std::size_t x = left + i % heatColumns * side;
        const std::size_t y = top + i / heatColumns * side;
        if (i % heatColumns == 0)
            svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", left - 6,
                               y + side - 2, address(view, i));
        const auto pages = pagesOf(view, pieces[i]);
        svg += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"><title>{}:", x, y,
                           side - gap, side - gap, looks.at(stateOf(pages)).fill, address(view, i));
        for (std::size_t state = 0; state < states; ++state)
            if (pages.at(state) != 0)
                svg +=
                    fmt::format(" {} {}", looks.at(state).name, formatByteSize(pages.at(state) * pageBytes));
        svg += "</title></rect>\n";
    }
    const auto sum = sums(view);
    for (std::size_t i = 0; i < states; ++i) {
        const std::size_t x = left + i * legendStep;
        svg += fmt::format(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>"
            "<text x=\"{}\" y=\"{}\">{} {}</text>\n",
            x, legend, side - gap, side - gap, looks.at(i).fill, x + side + 4, legend + side - 2,
            looks.at(i).name, formatByteSize(sum.at(i) * pageBytes));
    }
    return svg + "</svg>\n";
}

nlohmann::json heatJson(const HeatView& view) {
    auto pieces = nlohmann::json::array();
    for (const auto& piece : view.map.pieces)
        pieces.push_back({{"hot", piece.hot},
                          {"resident", piece.resident},
                          {"staged", piece.staged},
                          {"cold", piece.cold}});
    return {{"name", view.domain},
            {"memory_bytes", view.memoryBytes},
            {"working_set_bytes", view.map.workingSetBytes},
            {"page_bytes", pageBytes},
            {"pieces", std::move(pieces)}};
}

}  // namespace thermocline::cli
