// SPDX-License-Identifier: Apache-2.0
#include "daemon/manager_object.h"

#include <utility>

#include "daemon/bus.h"

namespace thermocline {

ManagerObject::ManagerObject(sdbus::IConnection& connection, Daemon& daemon, std::string hypervisorUri)
    : AdaptorInterfaces(connection, Bus::rootPath),
      daemon_(daemon),
      hypervisorUri_(std::move(hypervisorUri)) {
    registerAdaptor();
}

ManagerObject::~ManagerObject() {
    unregisterAdaptor();
}

void ManagerObject::domainAdded(const sdbus::ObjectPath& path) {
    sendIfPossible([&] {
        emitDomainAdded(path);
        emitPropertiesChangedSignal(Manager_adaptor::INTERFACE_NAME, {"Domains"});
    });
}

void ManagerObject::domainRemoved(const sdbus::ObjectPath& path) {
    sendIfPossible([&] {
        emitDomainRemoved(path);
        emitPropertiesChangedSignal(Manager_adaptor::INTERFACE_NAME, {"Domains"});
    });
}

void ManagerObject::hypervisorChanged() {
    sendIfPossible([&] {
        emitPropertiesChangedSignal(Manager_adaptor::INTERFACE_NAME,
                                    {"HypervisorState", "HypervisorDetail", "ConfigurationNote"});
    });
}

std::vector<sdbus::ObjectPath> ManagerObject::ListDomains() {
    return Domains();
}

sdbus::ObjectPath ManagerObject::LookupByName(const std::string& name) {
    const auto domain = daemon_.findByName(name);
    if (!domain) throw toBusError(domain.error());
    return domainPath((*domain)->uuid());
}

sdbus::ObjectPath ManagerObject::LookupByUuid(const std::string& uuid) {
    const auto domain = daemon_.findByUuid(uuid);
    if (!domain) throw toBusError(domain.error());
    return domainPath((*domain)->uuid());
}

std::vector<sdbus::Struct<std::string, bool, std::string, std::string>> ManagerObject::Doctor() {
    std::vector<sdbus::Struct<std::string, bool, std::string, std::string>> findings;
    for (const auto& finding : memory::probeHost().findings)
        findings.emplace_back(finding.name, finding.ok, finding.detail, finding.fix);
    const auto hypervisor = daemon_.checkHypervisor();
    findings.emplace_back("libvirt", hypervisor.has_value(),
                          hypervisor ? "connected to " + hypervisorUri_ : hypervisor.error().message,
                          hypervisor ? "" : "systemctl start libvirtd (or: libvirtd -d)");
    return findings;
}

void ManagerObject::ReloadConfiguration() {
    if (const auto reloaded = daemon_.reloadConfiguration(); !reloaded) throw toBusError(reloaded.error());
}

std::string ManagerObject::ConfigurationNote() {
    return daemon_.configurationNote();
}
std::string ManagerObject::Version() {
    return THERMOCLINE_VERSION;
}
std::string ManagerObject::HypervisorState() {
    return daemon_.hypervisorConnected() ? "connected" : "disconnected";
}
std::string ManagerObject::HypervisorUri() {
    return hypervisorUri_;
}
std::string ManagerObject::HypervisorDetail() {
    return daemon_.hypervisorDetail();
}

std::vector<sdbus::ObjectPath> ManagerObject::Domains() {
    std::vector<sdbus::ObjectPath> paths;
    for (const auto* domain : daemon_.domains())
        paths.push_back(domainPath(domain->uuid()));
    return paths;
}

}  // namespace thermocline
