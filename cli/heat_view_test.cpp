// SPDX-License-Identifier: Apache-2.0
#include "cli/heat_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline::cli {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t mib = 1 << 20;

/// Pieces of 1 MiB, 256 pages.
HeatView view(std::vector<memory::HeatMap::Piece> pieces) {
    HeatView made{"web1", pieces.size() * mib, {std::move(pieces), 0}};
    for (const auto& piece : made.map.pieces)
        made.map.workingSetBytes += (piece.hot + piece.resident) * 4096ULL;
    return made;
}

TEST(HeatText, showsWhatMostPagesAre) {
    EXPECT_EQ(heatText(view({{256, 0, 0, 0},
                             {0, 256, 0, 0},
                             {0, 0, 200, 56},
                             {0, 1, 1, 254},
                             {},
                             {100, 0, 0, 0},      // most of it was never touched
                             {64, 64, 64, 64}}),  // rather too hot than too cold
                       Style(false)),
              "web1: 7.0 MiB in 7 pieces of 1.0 MiB, working set at most 2.9 MiB\n"
              "\n"
              "       0 B |#o-.  #|\n"
              "\n"
              "           [#] hot 1.6 MiB  [o] resident 1.3 MiB  [-] staged 1.0 MiB  [.] cold 1.5 MiB  "
              "[ ] untouched 1.6 MiB\n");
}

TEST(HeatText, beginsEachRowWithItsAddress) {
    const std::string text =
        heatText(view(std::vector<memory::HeatMap::Piece>(heatColumns + 2, {0, 0, 0, 256})), Style(false));
    EXPECT_THAT(text,
                HasSubstr("\n       0 B |" + std::string(heatColumns, '.') + "|\n" + "  64.0 MiB |..|\n"));
}

TEST(HeatText, paintsNeighboursAtOnce) {
    const std::string text = heatText(view({{256, 0, 0, 0}, {256, 0, 0, 0}, {0, 0, 0, 256}}), Style(true));
    EXPECT_THAT(text, HasSubstr("|\033[31m██\033[0m\033[34m░\033[0m|\n"));
    EXPECT_THAT(text, HasSubstr("\033[33m[▓]\033[0m resident 0 B "));
}

TEST(HeatText, holdsWithoutPieces) {
    EXPECT_THAT(heatText({"vm", 0, {}}, Style(false)), HasSubstr("vm: 0 B in 0 pieces of 0 B"));
    EXPECT_THAT(heatSvg({"vm", 0, {}}), HasSubstr("</svg>"));
}

TEST(HeatSvg, isATableOfRectangles) {
    auto made = view({{256, 0, 0, 0}, {0, 0, 0, 200}});
    made.domain = "a<b> & \"c\"\n";
    const std::string svg = heatSvg(made);
    EXPECT_THAT(svg, ::testing::StartsWith("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns="));
    EXPECT_THAT(svg, HasSubstr(">a&lt;b&gt; &amp; &quot;c&quot; : 2.0 MiB in 2 pieces of 1.0 MiB, "
                               "working set at most 1.0 MiB</text>\n"));
    EXPECT_THAT(svg, HasSubstr("<rect x=\"80\" y=\"48\" width=\"11\" height=\"11\" fill=\"#d7191c\">"
                               "<title>0 B: hot 1.0 MiB</title></rect>\n"
                               "<rect x=\"92\" y=\"48\" width=\"11\" height=\"11\" fill=\"#2c7bb6\">"
                               "<title>1.0 MiB: cold 800.0 KiB untouched 224.0 KiB</title></rect>\n"));
    EXPECT_THAT(svg, HasSubstr(">cold 800.0 KiB</text>"));  // the legend
    EXPECT_THAT(svg, ::testing::EndsWith("</svg>\n"));
}

TEST(HeatJson, hasTheNamesOfTheProtocol) {
    EXPECT_EQ(heatJson(view({{1, 2, 3, 4}})).dump(),
              R"({"memory_bytes":1048576,"name":"web1","page_bytes":4096,)"
              R"("pieces":[{"cold":4,"hot":1,"resident":2,"staged":3}],"working_set_bytes":12288})");
}

}  // namespace
}  // namespace thermocline::cli
