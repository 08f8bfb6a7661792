// SPDX-License-Identifier: Apache-2.0
#include "daemon/domain_rules.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <iterator>
#include <pugixml.hpp>
#include <span>
#include <string_view>
#include <utility>

#include "daemon/domain_rules_file.h"
#include "daemon/limit_range.h"

namespace thermocline {
namespace {

bool fits(const std::string& glob, const std::string& text) {
    return ::fnmatch(glob.c_str(), text.c_str(), 0) == 0;
}

std::string_view localName(std::string_view name) {
    const auto colon = name.find(':');
    return colon == std::string_view::npos ? name : name.substr(colon + 1);
}

std::string_view namespaceOf(const pugi::xml_node& element) {
    const std::string_view name = element.name();
    const auto colon = name.find(':');
    const std::string attribute =
        colon == std::string_view::npos ? "xmlns" : fmt::format("xmlns:{}", name.substr(0, colon));
    for (auto node = element; node; node = node.parent())
        if (const auto space = node.attribute(attribute.c_str())) return space.value();
    return {};
}

bool found(const pugi::xml_node& element, std::span<const std::string> path,
           const std::optional<std::string>& value) {
    if (path.empty()) return !value || fits(*value, element.text().get());
    if (path.front().starts_with('@')) {
        const auto attribute = element.attribute(path.front().c_str() + 1);
        return attribute && (!value || fits(*value, attribute.value()));
    }
    return std::any_of(element.begin(), element.end(), [&](const pugi::xml_node& child) {
        return child.type() == pugi::node_element && localName(child.name()) == path.front() &&
               found(child, path.subspan(1), value);
    });
}

bool fits(const DomainRules::MetadataPattern& pattern, const std::string& metadata) {
    pugi::xml_document document;
    if (!document.load_string(metadata.c_str())) return false;
    const auto root = document.document_element();
    return std::any_of(root.begin(), root.end(), [&](const pugi::xml_node& element) {
        return element.type() == pugi::node_element && namespaceOf(element) == pattern.space &&
               found(element, pattern.path, pattern.value);
    });
}

DomainRules::Match resolve(const DomainRules::Rule& rule, std::uint64_t ram) {
    db::Policy policy = rule.policy;
    constexpr std::uint64_t page = 4096;
    if (rule.limitShare != 0)
        policy.limitBytes =
            static_cast<std::uint64_t>(rule.limitShare * static_cast<double>(ram)) / page * page;
    if (policy.limitBytes >= ram) policy.limitBytes = 0;
    if (policy.limitBytes != 0) policy.limitBytes = std::max(policy.limitBytes, lowestLimit(ram));
    return {policy, rule.where};
}

}  // namespace

Result<DomainRules> DomainRules::load(const std::filesystem::path& directory) {
    DomainRules all;
    std::error_code error;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error))
        if (entry.path().extension() == ".toml") files.push_back(entry.path());
    if (error == std::errc::no_such_file_or_directory) return all;
    if (error)
        return fail(ErrorCode::systemError, fmt::format("{}: {}; it has to be a directory that root can read",
                                                        directory.string(), error.message()));
    std::sort(files.begin(), files.end());
    for (const auto& path : files) {
        auto file = readDomainRules(path);
        if (!file) return tl::unexpected<Error>(file.error());
        std::move(file->rules.begin(), file->rules.end(), std::back_inserter(all.rules_));
        if (!file->fallback) continue;
        if (all.default_)
            return fail(ErrorCode::invalidArgument,
                        fmt::format("{}: there is a [default] in {} already; remove one",
                                    file->fallback->where, all.default_->where));
        all.default_ = std::move(file->fallback);
    }
    return all;
}

std::optional<DomainRules::Match> DomainRules::match(const DomainInfo& domain) const {
    for (const auto& rule : rules_)
        if ((!rule.name || fits(*rule.name, domain.name)) &&
            (!rule.metadata || fits(*rule.metadata, domain.metadata)))
            return resolve(rule, domain.memoryBytes);
    if (default_) return resolve(*default_, domain.memoryBytes);
    return std::nullopt;
}

}  // namespace thermocline
