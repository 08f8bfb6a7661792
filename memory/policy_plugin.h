// SPDX-License-Identifier: Apache-2.0
#pragma once

// A policy's shared object (policy/thermocline_policy.h), as it is loaded into this process. It is never
// unloaded: threads that it started may outlive every use of ours. Loading runs its constructors, so it
// happens on the policy's own thread, after privileges were dropped.

#include <filesystem>
#include <string>

#include "common/error.h"
#include "policy/thermocline_policy.h"

namespace thermocline::memory {

/// Where policies have to be, unless the manager is told another place.
inline constexpr const char* defaultPolicyDirectory = "/usr/lib/thermocline/policies";

class PolicyPlugin {
  public:
    /// Loads `file`. What may run inside a manager is root's to say, so it is refused unless it is a regular
    /// file directly in `directory`, both of them root's and writable by nobody else. Errors:
    /// permissionDenied, notSupported (another version of the interface, nothing exported), systemError.
    static Result<PolicyPlugin> load(const std::filesystem::path& file,
                                     const std::filesystem::path& directory);

    [[nodiscard]] const thermocline_policy& functions() const { return functions_; }
    /// As it calls itself, in printable characters.
    [[nodiscard]] const std::string& name() const { return name_; }

  private:
    PolicyPlugin(const thermocline_policy& functions, std::string name)
        : functions_(functions), name_(std::move(name)) {}

    thermocline_policy functions_;
    std::string name_;
};

}  // namespace thermocline::memory
