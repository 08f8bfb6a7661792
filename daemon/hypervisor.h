// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "memory/activity.h"

namespace thermocline {

/// What the hypervisor says of one domain.
struct DomainInfo {
    std::string uuid;  ///< lower case with dashes
    std::string name;
    bool running = false;           ///< has a process; paused counts
    bool migratingIn = false;       ///< memory is still arriving: must not be touched yet
    std::uint64_t memoryBytes = 0;  ///< configured maximum
    /// Its <overcommit> element, as the hypervisor hands it out (overcommit_xml.h): of the domain that runs,
    /// else of its persistent definition.
    std::optional<std::string> overcommit{};
    std::string metadata{};            ///< its whole <metadata> element, with everybody's; empty: none
    std::uint64_t hardLimitBytes = 0;  ///< virsh memtune --hard-limit; 0: none
    /// `paused`: by whomever. While memory arrives it means nothing.
    memory::Activity activity = memory::Activity::running;
    int id = 0;  ///< libvirt's, another one with each start; 0: it has none
    bool operator==(const DomainInfo&) const = default;
};

/// Follows all domains of a hypervisor: the seam to libvirt (LibvirtHypervisor; tests have a fake). It keeps
/// trying to be connected; between hypervisorConnected and hypervisorLost the listener knows every domain.
/// start() and the listener's calls belong to the core loop's thread. No call comes after destruction.
class Hypervisor {
  public:
    class Listener {
      public:
        virtual ~Listener() = default;
        /// Connected, for the first time or again. `domains`: all there are; those not listed are gone.
        virtual void hypervisorConnected(const std::vector<DomainInfo>& domains) = 0;
        /// Not reachable; called again when the reason changes.
        /// Nothing is known of what domains do meanwhile.
        virtual void hypervisorLost(const std::string& why) = 0;
        /// A domain is new or changed in whatever way.
        virtual void domainChanged(const DomainInfo& info) = 0;
        /// Likewise; its <overcommit> element was set or removed just now, by whomever.
        virtual void domainMetadataChanged(const DomainInfo& info) = 0;
        /// Undefined, or transient and ended.
        virtual void domainRemoved(const std::string& uuid) = 0;
        /// The guest rebooted inside its process.
        virtual void domainRebooted(const std::string& uuid) = 0;
    };

    virtual ~Hypervisor() = default;
    virtual void start(Listener& listener) = 0;
    /// Sets the <overcommit> element of the domain, of what runs and of what is kept; nullopt removes it.
    /// `done` comes from the loop, before any domainMetadataChanged that follows from it, or never where the
    /// hypervisor is destroyed first. Errors: hypervisorUnavailable, noSuchDomain, systemError with libvirt's
    /// words.
    virtual void setOvercommit(const std::string& uuid, std::optional<std::string> element,
                               std::function<void(Result<void>)> done) = 0;
    /// Stops the domain's processors (virsh suspend). `done` likewise; it may take as long as the VM's
    /// process takes to answer, which holds up nothing else.
    virtual void suspend(const std::string& uuid, std::function<void(Result<void>)> done) = 0;
};

}  // namespace thermocline
