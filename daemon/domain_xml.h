// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace thermocline {

/// What the daemon reads in a domain's XML. Any thread.
struct DomainXml {
    std::string metadata;  ///< the whole <metadata> element; empty: there is none
    std::string name;
    std::uint64_t hardLimitBytes = 0;  ///< <memtune><hard_limit>; 0: there is none
};

/// Of what virDomainGetXMLDesc says. What is not there, or is no XML, is nothing.
DomainXml readDomainXml(std::string_view xml);

}  // namespace thermocline
