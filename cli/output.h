// SPDX-License-Identifier: Apache-2.0
#pragma once

// How everything looks that thermoctl prints: tables, colours, JSON. The
// only place that knows of either. Plain functions and values; one thread.

#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/client.h"
#include "cli/failure.h"

namespace thermocline::cli {

enum class Colour { none, good, warning, bad, dim, bold, cool, cold };

/// Whether to colour: only on a terminal, and never with NO_COLOR set.
class Style {
  public:
    explicit Style(bool coloured) : coloured_(coloured) {}
    static Style of(std::FILE* stream);
    [[nodiscard]] std::string paint(std::string_view text, Colour colour) const;

    [[nodiscard]] bool coloured() const { return coloured_; }

  private:
    bool coloured_;
};

/// Columns as wide as their widest cell, two spaces between them. Widths count characters, not bytes.
class Table {
  public:
    struct Column {
        std::string title;
        bool right = false;
    };
    struct Cell {
        Cell(std::string cellText, Colour cellColour = Colour::none)  // NOLINT: a plain text is a cell
            : text(std::move(cellText)), colour(cellColour) {}
        Cell(const char* cellText) : Cell(std::string(cellText)) {}  // NOLINT: as above
        std::string text;
        Colour colour;
    };
    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
    /// REQUIRES: as many cells as columns.
    void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
    /// Lines with '\n', without spaces at their ends.
    [[nodiscard]] std::string render(const Style& style) const;

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<Cell>> rows_;
};

Colour stateColour(std::string_view state);
/// "-" for 0.
std::string sizeOrDash(std::uint64_t bytes);
/// 0.0312 -> "3.1 %"
std::string percent(double ratio);
/// "off", or the stall that it may cost and what it leaves in memory.
std::string proactiveText(const DomainFigures& domain);
/// "off", or after what time of a pause its memory goes.
std::string freezePausedText(const DomainFigures& domain);
/// "none", or whether it is open, and what it holds.
std::string fileTierText(const DomainFigures& domain);
/// "off", or the budget, what is kept free, and what there is to say of it.
std::string budgetText(const ManagerFigures& manager);
/// "9.3 ms", "1.2 s"
std::string duration(std::uint64_t nanoseconds);
/// One character per value, scaled from 0 to the highest; a space where there is none. Empty for no values.
std::string sparkline(const std::vector<std::optional<double>>& values);
/// The table of `list` and `top`.
std::string domainTable(const std::vector<DomainFigures>& domains, const Style& style);

nlohmann::json toJson(const DomainFigures& domain);
nlohmann::json toJson(const HistorySample& sample);
nlohmann::json toJson(const PlanFigures& plan);
nlohmann::json toJson(const DecisionRow& decision);
nlohmann::json toJson(const memory::Finding& finding);
nlohmann::json toJson(const std::vector<DomainFigures>& domains);

/// One line of JSON on stdout.
void printJson(const nlohmann::json& json);
/// "thermoctl: ..." on stderr; with `json` also {"error": {...}} on stdout.
void printFailure(const Failure& failure, bool json);

}  // namespace thermocline::cli
