// SPDX-License-Identifier: Apache-2.0
#include "cli/history_plot.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "cli/image_file.h"
#include "common/byte_size.h"

namespace thermocline::cli {
namespace {

constexpr double left = 90;
constexpr double plotWidth = 780;
constexpr double width = left + plotWidth + 20;
constexpr double panelGap = 40;

using Value = std::function<double(const HistorySample&)>;

Value of(std::uint64_t HistorySample::*member) {
    return [member](const HistorySample& sample) { return static_cast<double>(sample.*member); };
}

double stall(const HistorySample& sample) {
    return static_cast<double>(sample.stallNanoseconds) / 1e9 / sample.span;
}

double faultRate(const HistorySample& sample) {
    return static_cast<double>(sample.faults) / sample.span;
}

/// Colours as in the heat map: the warmer, the nearer to the guest.
struct Layer {
    const char* name;
    const char* fill;
    std::uint64_t HistorySample::*member;
};
constexpr std::array layers{Layer{"resident", "#fdae61", &HistorySample::resident},
                            Layer{"staged", "#abd9e9", &HistorySample::staged},
                            Layer{"cold", "#2c7bb6", &HistorySample::cold},
                            Layer{"frozen", "#542788", &HistorySample::frozen}};

struct Panel {
    double top;
    double height;
    double highest;  ///< value at the top

    [[nodiscard]] double y(double value) const {
        return top + height - height * (highest > 0 ? std::min(value / highest, 1.0) : 0);
    }
};

class Drawing {
  public:
    explicit Drawing(const HistoryView& view) : view_(view) {}

    [[nodiscard]] double x(std::size_t column) const {
        return left + plotWidth * static_cast<double>(column) / static_cast<double>(view_.samples.size());
    }

    /// Runs of known columns: [begin, end).
    template <typename Draw>
    void eachRun(const Draw& draw) const {
        const auto& samples = view_.samples;
        for (std::size_t begin = 0; begin < samples.size();) {
            if (!samples[begin]) {
                ++begin;
                continue;
            }
            std::size_t end = begin;
            while (end < samples.size() && samples[end])
                ++end;
            draw(begin, end);
            begin = end;
        }
    }

    void area(const Panel& panel, const Value& bottom, const Value& top, const char* fill) {
        eachRun([&](std::size_t begin, std::size_t end) {
            std::string points;
            for (std::size_t i = begin; i < end; ++i)
                points += step(i, panel.y(top(*view_.samples[i])));
            for (std::size_t i = end; i-- > begin;) {
                const double y = panel.y(bottom(*view_.samples[i]));
                points += fmt::format("{:.1f},{:.1f} {:.1f},{:.1f} ", x(i + 1), y, x(i), y);
            }
            svg_ += fmt::format("<polygon points=\"{}\" fill=\"{}\"/>\n", points, fill);
        });
    }

    void line(const Panel& panel, const Value& value, const char* stroke, const char* dashes) {
        eachRun([&](std::size_t begin, std::size_t end) {
            std::string points;
            const auto flush = [&] {
                if (!points.empty())
                    svg_ += fmt::format(
                        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"{}/>\n",
                        points, stroke, dashes);
                points.clear();
            };
            for (std::size_t i = begin; i < end; ++i) {
                const double at = value(*view_.samples[i]);
                // A limit that is not there is not one of 0.
                if (at < 0)
                    flush();
                else
                    points += step(i, panel.y(at));
            }
            flush();
        });
    }

    void frame(const Panel& panel, const std::string& title, const std::function<std::string(double)>& say) {
        svg_ += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n", left, panel.top - 8, title);
        for (const double share : {0.0, 0.5, 1.0}) {
            const double y = panel.y(panel.highest * share);
            svg_ += fmt::format(
                "<line x1=\"{0}\" y1=\"{2:.1f}\" x2=\"{1}\" y2=\"{2:.1f}\" stroke=\"#cccccc\"/>"
                "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
                left, left + plotWidth, y, left - 6, y + 4, say(panel.highest * share));
            if (panel.highest <= 0) break;
        }
    }

    void legend(double y) {
        double at = left;
        for (const auto& layer : layers) {
            svg_ += fmt::format(
                "<rect x=\"{0}\" y=\"{1}\" width=\"11\" height=\"11\" fill=\"{2}\"/><text x=\"{3}\" "
                "y=\"{4}\">{5}</text>\n",
                at, y, layer.fill, at + 16, y + 10, layer.name);
            at += 100;
        }
        for (const auto& [name, dashes] : {std::pair{"used", ""}, std::pair{"limit", limitDashes}}) {
            svg_ += fmt::format(
                "<line x1=\"{0}\" y1=\"{1}\" x2=\"{2}\" y2=\"{1}\" stroke=\"#000000\" "
                "stroke-width=\"1.5\"{3}/>"
                "<text x=\"{4}\" y=\"{5}\">{6}</text>\n",
                at, y + 6, at + 20, dashes, at + 25, y + 10, name);
            at += 100;
        }
    }

    void times(double y) {
        constexpr std::size_t marks = 4;
        const std::uint64_t length = view_.step * view_.samples.size();
        for (std::size_t i = 0; i <= marks; ++i) {
            const std::uint64_t time = view_.begin + length * i / marks;
            const auto local = fmt::localtime(static_cast<std::time_t>(time));
            svg_ += fmt::format(
                "<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"{}\">{}</text>\n",
                left + plotWidth * static_cast<double>(i) / marks, y,
                i == 0       ? "start"
                : i == marks ? "end"
                             : "middle",
                length > 86400 ? fmt::format("{:%m-%d %H:%M}", local) : fmt::format("{:%H:%M:%S}", local));
        }
    }

    static constexpr const char* limitDashes = " stroke-dasharray=\"6 4\"";
    [[nodiscard]] const std::string& svg() const { return svg_; }

  private:
    /// A step's value holds from its begin to its end.
    [[nodiscard]] std::string step(std::size_t column, double y) const {
        return fmt::format("{:.1f},{:.1f} {:.1f},{:.1f} ", x(column), y, x(column + 1), y);
    }

    const HistoryView& view_;
    std::string svg_;
};

}  // namespace

std::string historySvg(const HistoryView& view) {
    const auto highest = [&](const Value& value) {
        double most = 0;
        for (const auto& sample : view.samples)
            if (sample) most = std::max(most, value(*sample));
        return most;
    };
    const auto away = [](const HistorySample& sample) {
        double sum = 0;
        for (const auto& layer : layers)
            sum += static_cast<double>(sample.*layer.member);
        return sum;
    };
    const Panel memory{
        84, 260,
        std::max({highest(away), highest(of(&HistorySample::used)), highest(of(&HistorySample::limit))})};
    const Panel stalls{memory.top + memory.height + panelGap, 90, highest(stall)};
    const Panel faults{stalls.top + stalls.height + panelGap, 90, highest(faultRate)};
    const double height = faults.top + faults.height + panelGap;

    Drawing drawing(view);
    Value bottom = [](const HistorySample&) { return 0.0; };
    for (const auto& layer : layers) {
        const Value top = [bottom, member = layer.member](const HistorySample& sample) {
            return bottom(sample) + static_cast<double>(sample.*member);
        };
        drawing.area(memory, bottom, top, layer.fill);
        bottom = top;
    }
    drawing.line(memory, of(&HistorySample::used), "#000000", "");
    drawing.line(
        memory,
        [](const HistorySample& sample) {
            return sample.limit == 0 ? -1.0 : static_cast<double>(sample.limit);
        },
        "#000000", Drawing::limitDashes);
    const auto bytes = [](double value) {
        return formatByteSize(static_cast<std::uint64_t>(std::llround(value)));
    };
    drawing.frame(memory, "where the guest's memory was", bytes);
    drawing.area(
        stalls, [](const HistorySample&) { return 0.0; }, stall, "#d7191c");
    drawing.frame(stalls, "stall, share of time", [](double value) { return percent(value); });
    drawing.area(
        faults, [](const HistorySample&) { return 0.0; }, faultRate, "#636363");
    drawing.frame(faults, "faults per second", [](double value) { return fmt::format("{:.0f}", value); });
    drawing.legend(44);
    drawing.times(faults.top + faults.height + 18);

    return fmt::format(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
        "font-family=\"sans-serif\" font-size=\"11\">\n"
        "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n"
        "<text x=\"20\" y=\"28\" font-size=\"15\">{2}: {3} to {4}</text>\n{5}</svg>\n",
        width, height, xmlText(view.domain), timeText(view.begin),
        timeText(view.begin + view.step * view.samples.size()), drawing.svg());
}

}  // namespace thermocline::cli
