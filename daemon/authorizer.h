// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sdbus-c++/sdbus-c++.h>
#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/error.h"

namespace thermocline {

/// Who may change something over D-Bus; everyone may look. Asked in this order, none of it waited for:
///
///     root, and the user that the daemon runs as    may
///     the domain's owner (ownerOf), of a domain     may
///     anyone else                                   as polkit says, where it is on the bus
///
/// Where polkit is not on the bus (a private one, a host without it) nobody else may. What is asked but not
/// answered is given up with the object. Belongs to the loop's thread. REQUIRES: the connection outlives it.
class Authorizer {
  public:
    enum class Action {
        manageDomain,  ///< org.thermocline1.manage-domain: how one domain's memory is overcommitted
        manageHost     ///< org.thermocline1.manage-host: the host's budget, the daemon's configuration
    };
    using Done = std::function<void(Result<void>)>;
    /// What polkit's rules may look at, by name (action.lookup("domain")).
    using Details = std::map<std::string, std::string>;

    explicit Authorizer(sdbus::IConnection& connection);

    /// May the client `sender` (its unique name)? Errors: permissionDenied, with the reason; busy where a
    /// user has too many such questions open.
    void check(const std::string& sender, Action action, std::optional<uid_t> owner, Details details,
               Done done);

  private:
    struct Question;
    void askPolkit(const std::shared_ptr<Question>& question);
    void answer(const std::shared_ptr<Question>& question, Result<void> result);

    const uid_t self_;
    std::unique_ptr<sdbus::IProxy> bus_;
    std::unique_ptr<sdbus::IProxy> polkit_;
    std::map<uid_t, int> open_;  ///< questions to polkit
};

/// The owner of a VM: the person whose user its process runs as. nullopt: it runs as a service's, libvirt's
/// own for one, or there is no such process. A guest that broke out of its VM is such a service's user, too.
/// Any thread.
std::optional<uid_t> ownerOf(pid_t vm);
/// Whether uids of this value are given to people (login.defs: 1000 to 60000), not to services.
constexpr bool isPerson(uid_t uid) {
    return uid >= 1000 && uid <= 60000;
}
/// The client whose call the object is handling. REQUIRES: from within the handler.
std::string senderOf(const sdbus::IObject& object);

}  // namespace thermocline
