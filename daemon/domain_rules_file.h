// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "daemon/domain_rules.h"

namespace thermocline {

/// One file of rules, in its order.
struct DomainRulesFile {
    std::vector<DomainRules::Rule> rules;
    std::optional<DomainRules::Rule> fallback;  ///< [default]
};

/// Errors as DomainRules::load(). Any thread.
Result<DomainRulesFile> readDomainRules(const std::filesystem::path& file);

}  // namespace thermocline
