// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "daemon/hypervisor.h"
#include "db/policy_store.h"

namespace thermocline {

/// What is to be done with domains for which nobody has said anything: the rules of all *.toml files of a
/// directory, as docs/virsh.md describes them. Files are read in the order of their names; the first rule
/// that fits a domain is its rule, else [default]. Immutable, thread-safe.
class DomainRules {
  public:
    struct Match {
        db::Policy policy;  ///< with byRule; not managed: leave the domain alone
        std::string where;  ///< "/etc/thermocline/conf.d/20-web.toml:7"
    };

    /// No rules.
    DomainRules() = default;
    /// A directory that does not exist has none. Errors: invalidArgument, systemError; the message names file
    /// and line, and what to do.
    static Result<DomainRules> load(const std::filesystem::path& directory);

    /// nullopt: no rule fits. A limit that does not suit the domain's RAM is made to: none where it is RAM or
    /// more, the floor where it is less than that.
    [[nodiscard]] std::optional<Match> match(const DomainInfo& domain) const;
    [[nodiscard]] std::size_t size() const { return rules_.size() + (default_ ? 1 : 0); }

    /// Found in a domain's metadata.
    struct MetadataPattern {
        std::string space;                 ///< namespace of an element of <metadata>
        std::vector<std::string> path;     ///< local names below it; the last may be "@attribute"
        std::optional<std::string> value;  ///< glob; nullopt: that it exists is enough
    };
    struct Rule {
        std::optional<std::string> name;  ///< glob
        std::optional<MetadataPattern> metadata;
        db::Policy policy{};
        double limitShare = 0;  ///< of RAM; 0: policy.limitBytes holds
        std::string where;
    };

  private:
    std::vector<Rule> rules_;
    std::optional<Rule> default_;
};

}  // namespace thermocline
