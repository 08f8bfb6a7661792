// SPDX-License-Identifier: Apache-2.0
#include "cli/history_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

HistoryView view() {
    HistoryView view{"a<b", 0, 10, std::vector<std::optional<HistorySample>>(4)};
    for (const std::size_t known : {0U, 1U, 3U}) {
        HistorySample sample;
        sample.time = known * 10;
        sample.span = 10;
        sample.resident = 100;
        sample.cold = 100;
        sample.used = 150;
        view.samples[known] = sample;
    }
    return view;
}

TEST(HistoryPlot, stacksMemoryAndLeavesGaps) {
    const auto svg = historySvg(view());
    EXPECT_THAT(svg, HasSubstr("a&lt;b: "));
    // 780 points wide, of which a step takes 195; 260 high from 84 on, and 200 bytes are the highest.
    EXPECT_THAT(svg, HasSubstr("<polygon points=\"90.0,214.0 285.0,214.0 285.0,214.0 480.0,214.0 480.0,344.0 "
                               "285.0,344.0 285.0,344.0 90.0,344.0 \" fill=\"#fdae61\"/>"));
    EXPECT_THAT(svg, HasSubstr("<polygon points=\"675.0,84.0 870.0,84.0 870.0,214.0 675.0,214.0 \" "
                               "fill=\"#2c7bb6\"/>"));
    EXPECT_THAT(svg, HasSubstr("<polyline points=\"675.0,149.0 870.0,149.0 \" fill=\"none\""));
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(HistoryPlot, drawsALimitOnlyWhereThereIsOne) {
    auto limited = view();
    limited.samples[1]->limit = 200;
    const auto svg = historySvg(limited);
    EXPECT_THAT(svg, HasSubstr("<polyline points=\"285.0,84.0 480.0,84.0 \" fill=\"none\" stroke=\"#000000\" "
                               "stroke-width=\"1.5\" stroke-dasharray"));
    EXPECT_THAT(historySvg(view()), Not(HasSubstr("1.5\" stroke-dasharray=\"6 4\"/>\n<polyline")));
}

TEST(HistoryPlot, nothingKnownIsAnEmptyFrame) {
    const auto svg = historySvg(HistoryView{"web1", 0, 1, {}});
    EXPECT_THAT(svg, HasSubstr("</svg>"));
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace thermocline::cli
