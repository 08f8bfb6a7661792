// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

#include "common/byte_size.h"
#include "common/share.h"
#include "common/time_span.h"

namespace thermocline::cli {
namespace {

/// Characters of UTF-8 text; names of domains may have any.
std::size_t width(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        constexpr unsigned char continuationMask = 0xc0;
        constexpr unsigned char continuation = 0x80;
        return (static_cast<unsigned char>(c) & continuationMask) != continuation;
    }));
}

}  // namespace

Style Style::of(std::FILE* stream) {
    const char* const noColour = std::getenv("NO_COLOR");  // https://no-color.org: set and not empty
    return Style(::isatty(::fileno(stream)) == 1 && (noColour == nullptr || *noColour == '\0'));
}

std::string Style::paint(std::string_view text, Colour colour) const {
    if (!coloured_ || colour == Colour::none) return std::string(text);
    constexpr std::array codes{"0", "32", "33", "31", "2", "1", "36", "34"};  // in the order of Colour
    return fmt::format("\033[{}m{}\033[0m", codes.at(static_cast<std::size_t>(colour)), text);
}

std::string Table::render(const Style& style) const {
    std::vector<std::size_t> widths;
    for (const auto& column : columns_)
        widths.push_back(width(column.title));
    for (const auto& row : rows_)
        for (std::size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], width(row[i].text));

    std::string text;
    const auto line = [&](const auto& cellAt) {
        std::string built;
        for (std::size_t i = 0; i < columns_.size(); ++i) {
            const Cell cell = cellAt(i);
            const std::string padding(widths[i] - width(cell.text), ' ');
            const bool last = i + 1 == columns_.size();
            if (columns_[i].right) built += padding;
            built += style.paint(cell.text, cell.colour);
            if (!columns_[i].right && !last) built += padding;
            if (!last) built += "  ";
        }
        built.erase(built.find_last_not_of(' ') + 1);
        text += built + '\n';
    };
    line([&](std::size_t i) { return Cell(columns_[i].title, Colour::bold); });
    for (const auto& row : rows_)
        line([&](std::size_t i) { return row[i]; });
    return text;
}

Colour stateColour(std::string_view state) {
    if (state == "attached") return Colour::good;
    if (state == "failed") return Colour::bad;
    if (state == "detached") return Colour::dim;
    return Colour::warning;
}

std::string sizeOrDash(std::uint64_t bytes) {
    return bytes == 0 ? "-" : formatByteSize(bytes);
}

std::string percent(double ratio) {
    constexpr double hundred = 100;
    return fmt::format("{:.1f} %", ratio * hundred);
}

std::string proactiveText(const DomainFigures& domain) {
    if (domain.proactiveMaxStall == 0) return "off";
    return fmt::format("at a stall of up to {}{}", formatShare(domain.proactiveMaxStall),
                       domain.minResidentBytes == 0
                           ? ""
                           : fmt::format(", leaving {} in memory", formatByteSize(domain.minResidentBytes)));
}

std::string freezePausedText(const DomainFigures& domain) {
    if (domain.freezePausedSeconds == 0) return "off: its memory stays where it is while it is paused";
    return fmt::format("all of its memory goes once it has been paused for {}",
                       formatSpan(std::chrono::seconds(domain.freezePausedSeconds)));
}

std::string budgetText(const ManagerFigures& manager) {
    if (manager.budget.empty() || manager.budget == "off") return "off";
    std::string text = manager.budget;
    if (manager.keepFreeBytes != 0)
        text += fmt::format(", {} kept free", formatByteSize(manager.keepFreeBytes));
    if (!manager.budgetNote.empty()) text += fmt::format(" ({})", manager.budgetNote);
    return text;
}

std::string fileTierText(const DomainFigures& domain) {
    if (domain.fileTier.empty()) return "none";
    if (domain.frozenBytes == 0 && domain.fileBytes == 0) return domain.fileTier;
    return fmt::format("{}, {} of guest memory in {} of disk", domain.fileTier,
                       formatByteSize(domain.frozenBytes), formatByteSize(domain.fileBytes));
}

std::string duration(std::uint64_t nanoseconds) {
    const auto value = static_cast<double>(nanoseconds);
    if (nanoseconds < 1'000'000) return fmt::format("{:.1f} us", value / 1e3);
    if (nanoseconds < 1'000'000'000) return fmt::format("{:.1f} ms", value / 1e6);
    return fmt::format("{:.1f} s", value / 1e9);
}

std::string sparkline(const std::vector<std::optional<double>>& values) {
    constexpr std::array bars{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double highest = 0;
    for (const auto& value : values)
        highest = std::max(highest, value.value_or(0));
    std::string line;
    for (const auto& value : values) {
        if (!value) {
            line += ' ';
            continue;
        }
        const double share = highest > 0 ? *value / highest : 0;
        line += bars.at(static_cast<std::size_t>(std::lround(share * (bars.size() - 1))));
    }
    return line;
}

std::string domainTable(const std::vector<DomainFigures>& domains, const Style& style) {
    Table table({{"NAME"},
                 {"STATE"},
                 {"MEMORY", true},
                 {"RESIDENT", true},
                 {"STAGED", true},
                 {"COLD", true},
                 {"STORE", true},
                 {"USED", true},
                 {"LIMIT", true},
                 {"SAVED", true},
                 {"FAULTS", true},
                 {"STALL", true}});
    for (const auto& domain : domains) {
        const std::string state = domain.running || domain.attached() ? domain.state : "shut off";
        std::vector<Table::Cell> row{domain.name,
                                     {state, domain.running ? stateColour(domain.state) : Colour::dim},
                                     formatByteSize(domain.memoryBytes)};
        if (!domain.attached()) {
            while (row.size() < 12)
                row.emplace_back("-", Colour::dim);
            if (domain.limitBytes != 0) row[8] = {formatByteSize(domain.limitBytes), Colour::dim};
        } else {
            row.insert(row.end(),
                       {formatByteSize(domain.residentBytes),
                        formatByteSize(domain.stagedBytes),
                        formatByteSize(domain.coldBytes),
                        formatByteSize(domain.storeBytes),
                        {formatByteSize(domain.usedBytes), domain.limitMet ? Colour::none : Colour::warning},
                        sizeOrDash(domain.limitBytes),
                        {formatByteSize(domain.savedBytes()), Colour::good},
                        std::to_string(domain.faults),
                        percent(domain.stallRatio)});
        }
        table.add(std::move(row));
    }
    return table.render(style);
}

nlohmann::json toJson(const DomainFigures& domain) {
    return {{"name", domain.name},
            {"uuid", domain.uuid},
            {"pid", domain.pid},
            {"running", domain.running},
            {"state", domain.state},
            {"state_note", domain.stateNote},
            {"managed", domain.managed},
            {"settings_note", domain.settingsNote},
            {"mechanism", domain.mechanism},
            {"supported", domain.supported},
            {"support_reason", domain.supportReason},
            {"support_fix", domain.supportFix},
            {"memory_bytes", domain.memoryBytes},
            {"resident_bytes", domain.residentBytes},
            {"staged_bytes", domain.stagedBytes},
            {"cold_bytes", domain.coldBytes},
            {"store_bytes", domain.storeBytes},
            {"frozen_bytes", domain.frozenBytes},
            {"file_bytes", domain.fileBytes},
            {"file_tier", domain.fileTier},
            {"metadata_bytes", domain.metadataBytes},
            {"used_bytes", domain.usedBytes},
            {"limit_bytes", domain.limitBytes},
            {"limit_met", domain.limitMet},
            {"limit_note", domain.limitNote},
            {"activity", domain.activity},
            {"freeze_paused_seconds", domain.freezePausedSeconds},
            {"priority", domain.priority},
            {"allotment_bytes", domain.allotmentBytes},
            {"allotment_note", domain.allotmentNote},
            {"proactive_max_stall", domain.proactiveMaxStall},
            {"min_resident_bytes", domain.minResidentBytes},
            {"policy", domain.policy},
            {"policy_note", domain.policyNote},
            {"saved_bytes", domain.savedBytes()},
            {"faults", domain.faults},
            {"staged_faults", domain.stagedFaults},
            {"cold_faults", domain.coldFaults},
            {"frozen_faults", domain.frozenFaults},
            {"zero_faults", domain.zeroFaults},
            {"evicted_pages", domain.evictedPages},
            {"prefetched_pages", domain.prefetchedPages},
            {"stall_ns", domain.stallNanoseconds},
            {"stall_ratio", domain.stallRatio},
            {"attach_pause_us", domain.attachPauseMicroseconds},
            {"manager_rss_bytes", domain.managerRssBytes}};
}

nlohmann::json toJson(const HistorySample& sample) {
    return {{"time", sample.time},
            {"span", sample.span},
            {"memory_bytes", sample.memory},
            {"resident_bytes", sample.resident},
            {"staged_bytes", sample.staged},
            {"cold_bytes", sample.cold},
            {"store_bytes", sample.store},
            {"metadata_bytes", sample.metadata},
            {"used_bytes", sample.used},
            {"limit_bytes", sample.limit},
            {"faults", sample.faults},
            {"staged_faults", sample.stagedFaults},
            {"cold_faults", sample.coldFaults},
            {"zero_faults", sample.zeroFaults},
            {"evicted_pages", sample.evictedPages},
            {"stall_ns", sample.stallNanoseconds},
            {"stall_ratio_max", sample.stallRatioMax},
            {"frozen_bytes", sample.frozen},
            {"frozen_faults", sample.frozenFaults}};
}

nlohmann::json toJson(const PlanFigures& plan) {
    auto vms = nlohmann::json::array();
    for (const auto& vm : plan.vms)
        vms.push_back({{"name", vm.name},
                       {"priority", vm.priority},
                       {"floor_bytes", vm.floor},
                       {"need_bytes", vm.need},
                       {"used_bytes", vm.used},
                       {"before_bytes", vm.before},
                       {"after_bytes", vm.after},
                       {"reason", vm.reason}});
    return {{"available_bytes", plan.available},
            {"used_bytes", plan.used},
            {"need_bytes", plan.need},
            {"note", plan.note},
            {"vms", std::move(vms)}};
}

nlohmann::json toJson(const DecisionRow& decision) {
    return {{"time", decision.time},
            {"uuid", decision.uuid},
            {"before_bytes", decision.before},
            {"after_bytes", decision.after},
            {"reason", decision.reason}};
}

nlohmann::json toJson(const memory::Finding& finding) {
    return {{"name", finding.name}, {"ok", finding.ok}, {"detail", finding.detail}, {"fix", finding.fix}};
}

nlohmann::json toJson(const std::vector<DomainFigures>& domains) {
    auto list = nlohmann::json::array();
    for (const auto& domain : domains)
        list.push_back(toJson(domain));
    return list;
}

void printJson(const nlohmann::json& json) {
    fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    std::fflush(stdout);  // `top --json | reader` must see each line when it comes
}

void printFailure(const Failure& failure, bool json) {
    if (json) printJson({{"error", {{"name", failure.name}, {"message", failure.message}}}});
    fmt::print(stderr, "{} {}: {}\n", Style::of(stderr).paint("thermoctl:", Colour::bad), failure.name,
               failure.message);
}

}  // namespace thermocline::cli
