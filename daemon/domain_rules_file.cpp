// SPDX-License-Identifier: Apache-2.0
#include "daemon/domain_rules_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <fstream>
#include <iterator>
#include <string_view>

#include "common/byte_size.h"
#include "common/share.h"
#include "daemon/arbiter.h"
#include "daemon/overcommit_xml.h"
#include "memory/proactive_policy.h"

namespace thermocline {
namespace {

constexpr double leastLimitShare = 1.0 / 16;

/// Reads one table of settings; the first thing that is wrong ends it.
class RuleReader {
  public:
    RuleReader(const std::filesystem::path& file, const toml::table& table) : file_(file), table_(table) {
        rule_.where = where(table);
        rule_.policy.managed = true;
        rule_.policy.byRule = true;
    }

    Result<DomainRules::Rule> read(bool fallback) {
        THERMOCLINE_TRY(checkKeys(fallback));
        if (!fallback) THERMOCLINE_TRY(readPatterns());
        THERMOCLINE_TRY(readSettings());
        return rule_;
    }

  private:
    [[nodiscard]] std::string where(const toml::node& node) const {
        return fmt::format("{}:{}", file_.string(), node.source().begin.line);
    }
    [[nodiscard]] tl::unexpected<Error> wrong(const toml::node& node, const std::string& message) const {
        return fail(ErrorCode::invalidArgument, fmt::format("{}: {}", where(node), message));
    }
    Result<std::optional<std::string>> text(const toml::table& table, const char* key) const {
        const toml::node* const node = table.get(key);
        if (node == nullptr) return std::optional<std::string>();
        if (!node->is_string())
            return wrong(*node, fmt::format("{} is not a text; write {} = \"...\"", key, key));
        return node->value<std::string>();
    }

    Result<void> checkKeys(bool fallback) const {
        for (const auto& [key, node] : table_) {
            const std::string_view name = key.str();
            const bool setting = name == "attach" || name == "limit" || name == "max-stall" ||
                                 name == "min-resident" || name == "freeze-paused" || name == "priority";
            const bool pattern = name == "name" || name == "metadata";
            if (setting || (pattern && !fallback)) continue;
            return wrong(node, fmt::format("there is no {} here; there are {}attach, limit, max-stall, "
                                           "min-resident, freeze-paused and "
                                           "priority",
                                           name, fallback ? "" : "name, metadata, "));
        }
        return {};
    }

    Result<void> readPatterns() {
        auto name = text(table_, "name");
        if (!name) return tl::unexpected<Error>(name.error());
        rule_.name = std::move(*name);
        if (const toml::node* const node = table_.get("metadata")) {
            if (!node->is_table())
                return wrong(*node,
                             "metadata is not a table; write metadata = { namespace = \"...\", path = "
                             "\"a/@b\", value = "
                             "\"...\" }");
            THERMOCLINE_TRY(readMetadata(*node->as_table()));
        }
        if (!rule_.name && !rule_.metadata)
            return wrong(table_,
                         "the rule fits every domain; give it name or metadata, or make it [default]");
        return {};
    }

    Result<void> readMetadata(const toml::table& table) {
        for (const auto& [key, node] : table)
            if (key.str() != "namespace" && key.str() != "path" && key.str() != "value")
                return wrong(
                    node, fmt::format("there is no {} here; there are namespace, path and value", key.str()));
        auto space = text(table, "namespace");
        if (!space) return tl::unexpected<Error>(space.error());
        if (!*space || (*space)->empty())
            return wrong(table,
                         "metadata has no namespace; give that of the element, as virsh dumpxml shows it");
        auto path = text(table, "path");
        if (!path) return tl::unexpected<Error>(path.error());
        auto value = text(table, "value");
        if (!value) return tl::unexpected<Error>(value.error());
        DomainRules::MetadataPattern pattern{**space, {}, *value};
        std::string_view rest = *path ? std::string_view(**path) : std::string_view();
        while (!rest.empty()) {
            const auto slash = rest.find('/');
            const auto step = rest.substr(0, slash);
            const bool last = slash == std::string_view::npos;
            if (step.empty() || step == "@" || (step.starts_with('@') && !last))
                return wrong(
                    table,
                    fmt::format("\"{}\" is no path; write it like flavor/@name or owner/project", **path));
            pattern.path.emplace_back(step);
            rest = last ? std::string_view() : rest.substr(slash + 1);
        }
        rule_.metadata = std::move(pattern);
        return {};
    }

    Result<void> readSettings() {
        if (const toml::node* const node = table_.get("attach")) {
            if (!node->is_boolean()) return wrong(*node, "attach is true or false");
            rule_.policy.managed = *node->value<bool>();
        }
        for (const char* const key : {"limit", "max-stall", "min-resident", "freeze-paused"}) {
            const auto value = text(table_, key);
            if (!value) return tl::unexpected<Error>(value.error());
            if (!*value) continue;
            const toml::node& node = *table_.get(key);
            if (!rule_.policy.managed)
                return wrong(
                    node,
                    fmt::format("{} is for domains that are attached; remove it, or attach = false", key));
            if (auto taken = takeSetting(key, **value); !taken) return wrong(node, taken.error().message);
        }
        if (const toml::node* const node = table_.get("priority")) {
            const auto number = node->is_integer() ? node->value<std::int64_t>() : std::nullopt;
            const auto priority = parsePriority(number ? std::to_string(*number) : std::string());
            if (!priority || !rule_.policy.managed)
                return wrong(*node,
                             fmt::format("priority is for domains that are attached, and a whole number from "
                                         "{} to {}",
                                         lowestPriority, highestPriority));
            rule_.policy.priority = *priority;
        }
        if (rule_.policy.proactive.minResidentBytes != 0 && rule_.policy.proactive.maxStall == 0)
            return wrong(
                *table_.get("min-resident"),
                "min-resident says what max-stall leaves in memory; give max-stall too, or remove it");
        return {};
    }

    Result<void> takeSetting(std::string_view key, const std::string& value) {
        using memory::ProactivePolicy;
        const auto outOfRange = [&](const char* range) {
            return fail(ErrorCode::invalidArgument,
                        fmt::format("{} = \"{}\" is out of range; it is {}", key, value, range));
        };
        if (key == "freeze-paused") {
            const auto seconds = parseFreezePaused(value);
            if (!seconds)
                return fail(ErrorCode::invalidArgument, fmt::format("{}: {}", key, seconds.error().message));
            rule_.policy.freezePausedSeconds = *seconds;
            return {};
        }
        if (key == "max-stall" || value.ends_with('%')) {
            const auto share = parseShare(value);
            if (!share)
                return fail(ErrorCode::invalidArgument, fmt::format("{}: {}", key, share.error().message));
            if (key == "max-stall") {
                if (*share < ProactivePolicy::leastStall || *share > ProactivePolicy::mostStall)
                    return outOfRange("from 0.01% to 50%");
                rule_.policy.proactive.maxStall = *share;
                return {};
            }
            if (key == "limit") {
                if (*share < leastLimitShare || *share > 1)
                    return outOfRange("from 6.25% to 100% of the domain's RAM");
                rule_.limitShare = *share;
                return {};
            }
        }
        const auto size = parseByteSize(value);
        if (!size) return fail(ErrorCode::invalidArgument, fmt::format("{}: {}", key, size.error().message));
        if (*size == 0) return outOfRange("more than 0, or not given at all");
        (key == "limit" ? rule_.policy.limitBytes : rule_.policy.proactive.minResidentBytes) = *size;
        return {};
    }

    const std::filesystem::path& file_;
    const toml::table& table_;
    DomainRules::Rule rule_;
};

}  // namespace

Result<DomainRulesFile> readDomainRules(const std::filesystem::path& file) {
    // Not a pipe, which would hold the daemon up, nor a directory, which the stream would throw for.
    std::error_code error;
    const bool regular = std::filesystem::is_regular_file(file, error);
    std::ifstream stream(file, std::ios::binary);
    if (!regular || !stream)
        return fail(ErrorCode::systemError,
                    fmt::format("{}: it cannot be read; check what it is, and its mode", file.string()));
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    toml::table table;
    try {
        table = toml::parse(text, file.string());
    } catch (const toml::parse_error& wrongLine) {
        return fail(ErrorCode::invalidArgument,
                    fmt::format("{}:{}: {}; correct the line (the format is TOML)", file.string(),
                                wrongLine.source().begin.line, wrongLine.description()));
    }
    const auto wrong = [&](const toml::node& node, const std::string& message) {
        return fail(ErrorCode::invalidArgument,
                    fmt::format("{}:{}: {}", file.string(), node.source().begin.line, message));
    };
    DomainRulesFile result;
    for (const auto& [key, node] : table) {
        if (key.str() == "default" && node.is_table()) {
            auto rule = RuleReader(file, *node.as_table()).read(true);
            if (!rule) return tl::unexpected<Error>(rule.error());
            result.fallback = std::move(*rule);
        } else if (key.str() == "rule" && node.is_array_of_tables()) {
            for (const auto& element : *node.as_array()) {
                auto rule = RuleReader(file, *element.as_table()).read(false);
                if (!rule) return tl::unexpected<Error>(rule.error());
                result.rules.push_back(std::move(*rule));
            }
        } else {
            return wrong(node,
                         fmt::format("{} is not known here; there are [default] and [[rule]]", key.str()));
        }
    }
    return result;
}

}  // namespace thermocline
