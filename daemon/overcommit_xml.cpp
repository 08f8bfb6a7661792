// SPDX-License-Identifier: Apache-2.0
#include "daemon/overcommit_xml.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <pugixml.hpp>

#include "common/byte_size.h"
#include "common/share.h"
#include "common/time_span.h"
#include "daemon/arbiter.h"
#include "memory/proactive_policy.h"

namespace thermocline {
namespace {

constexpr const char* elementName = "overcommit";

tl::unexpected<Error> invalid(std::string message) {
    return fail(ErrorCode::invalidArgument, std::move(message));
}

/// libvirt hands the element out without a prefix; XML that people pass around has one.
std::string_view localName(std::string_view name) {
    const auto colon = name.find(':');
    return colon == std::string_view::npos ? name : name.substr(colon + 1);
}

Result<std::uint64_t> parseSize(const char* name, const char* value) {
    auto size = parseByteSize(value);
    if (!size) return invalid(fmt::format("{}: {}", name, size.error().message));
    if (*size == 0)
        return invalid(
            fmt::format("{}: 0 is no size for it; leave {} out where there shall be none", name, name));
    return size;
}

Result<double> parseStall(const char* value) {
    using memory::ProactivePolicy;
    const auto share = parseShare(value);
    if (!share) return invalid(fmt::format("max-stall: {}", share.error().message));
    if (*share < ProactivePolicy::leastStall || *share > ProactivePolicy::mostStall)
        return invalid(fmt::format(
            "max-stall: \"{}\" is out of range; it is from {} to {} (leave it out to turn it off)", value,
            formatShare(ProactivePolicy::leastStall), formatShare(ProactivePolicy::mostStall)));
    return share;
}

Result<void> takeAttribute(const pugi::xml_attribute& attribute, db::Policy& policy) {
    const std::string_view name = attribute.name();
    if (name == "xmlns" || name.starts_with("xmlns:")) return {};
    if (name == "limit" || name == "min-resident") {
        const auto size = parseSize(attribute.name(), attribute.value());
        if (!size) return tl::unexpected<Error>(size.error());
        (name == "limit" ? policy.limitBytes : policy.proactive.minResidentBytes) = *size;
        return {};
    }
    if (name == "max-stall") {
        const auto stall = parseStall(attribute.value());
        if (!stall) return tl::unexpected<Error>(stall.error());
        policy.proactive.maxStall = *stall;
        return {};
    }
    if (name == "priority") {
        const auto priority = parsePriority(attribute.value());
        if (!priority) return invalid(priority.error().message);
        policy.priority = *priority;
        return {};
    }
    if (name == "freeze-paused") {
        const auto seconds = parseFreezePaused(attribute.value());
        if (!seconds) return invalid(fmt::format("freeze-paused: {}", seconds.error().message));
        policy.freezePausedSeconds = *seconds;
        return {};
    }
    return invalid(fmt::format(
        "there is no attribute {}; there are limit, max-stall, min-resident, freeze-paused and priority",
        name));
}

/// In the largest unit that leaves no fraction, so that nothing is rounded.
std::string exactSize(std::uint64_t bytes) {
    constexpr std::uint64_t step = 1024;
    constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB"};
    std::size_t unit = 0;
    while (bytes != 0 && bytes % step == 0 && unit + 1 < units.size()) {
        bytes /= step;
        ++unit;
    }
    return fmt::format("{}{}", bytes, units.at(unit));
}

}  // namespace

Result<std::uint32_t> parseFreezePaused(std::string_view text) {
    const auto span = parseSpan(text);
    if (!span) return tl::unexpected<Error>(span.error());
    if (*span > longestFreezePaused)
        return invalid(
            fmt::format("{} is too long; it is {} at most", text, formatSpan(longestFreezePaused)));
    return static_cast<std::uint32_t>(span->count());
}

Result<db::Policy> parseOvercommit(std::string_view xml) {
    pugi::xml_document document;
    if (const auto parsed = document.load_buffer(xml.data(), xml.size()); !parsed)
        return invalid(fmt::format("it is not well-formed XML: {}", parsed.description()));
    const auto element = document.document_element();
    if (localName(element.name()) != elementName)
        return invalid(fmt::format("the element is <{}>; it has to be <{}>", element.name(), elementName));
    if (std::any_of(element.begin(), element.end(), [](const pugi::xml_node& child) {
            return child.type() != pugi::node_comment && child.type() != pugi::node_pi;
        }))
        return invalid(fmt::format("<{}> has content; all it has are attributes", elementName));
    db::Policy policy;
    policy.managed = true;
    for (const auto& attribute : element.attributes())
        THERMOCLINE_TRY(takeAttribute(attribute, policy));
    if (policy.proactive.minResidentBytes != 0 && policy.proactive.maxStall == 0)
        return invalid(
            "min-resident: it says what max-stall leaves in memory; give max-stall too, or leave it out");
    return policy;
}

std::string formatOvercommit(const db::Policy& policy) {
    std::string attributes;
    if (policy.limitBytes != 0) attributes += fmt::format(" limit=\"{}\"", exactSize(policy.limitBytes));
    // The shortest digits that are this number and no other.
    if (policy.proactive.maxStall != 0)
        attributes += fmt::format(" max-stall=\"{}\"", policy.proactive.maxStall);
    if (policy.proactive.minResidentBytes != 0)
        attributes += fmt::format(" min-resident=\"{}\"", exactSize(policy.proactive.minResidentBytes));
    if (policy.freezePausedSeconds != 0)
        attributes += fmt::format(" freeze-paused=\"{}\"",
                                  formatSpan(std::chrono::seconds(policy.freezePausedSeconds)));
    if (policy.priority != defaultPriority) attributes += fmt::format(" priority=\"{}\"", policy.priority);
    return fmt::format("<{}{}/>", elementName, attributes);
}

}  // namespace thermocline
