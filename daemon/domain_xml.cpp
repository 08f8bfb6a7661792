// SPDX-License-Identifier: Apache-2.0
#include "daemon/domain_xml.h"

#include <fmt/format.h>

#include <limits>
#include <pugixml.hpp>
#include <sstream>

#include "common/byte_size.h"

namespace thermocline {
namespace {

/// libvirt writes KiB, and anything that is no bound as a number that is larger than all memory.
std::uint64_t bytesOf(const pugi::xml_node& element) {
    if (!element) return 0;
    const char* const unit = element.attribute("unit").as_string("KiB");
    const auto bytes = parseByteSize(fmt::format("{}{}", element.text().get(), unit));
    constexpr std::uint64_t unlimited =
        std::uint64_t{9007199254740991} * 1024;  // VIR_DOMAIN_MEMORY_PARAM_UNLIMITED
    return bytes && *bytes < unlimited ? *bytes : 0;
}

}  // namespace

DomainXml readDomainXml(std::string_view xml) {
    DomainXml result;
    pugi::xml_document document;
    if (!document.load_buffer(xml.data(), xml.size())) return result;
    const auto domain = document.child("domain");
    result.name = domain.child_value("name");
    if (const auto metadata = domain.child("metadata")) {
        std::ostringstream text;
        metadata.print(text, "", pugi::format_raw);
        result.metadata = text.str();
    }
    result.hardLimitBytes = bytesOf(domain.child("memtune").child("hard_limit"));
    return result;
}

}  // namespace thermocline
