// SPDX-License-Identifier: Apache-2.0
#include "daemon/manager_object.h"

#include <utility>

#include "daemon/bus.h"
#include "daemon/host_budget.h"

namespace thermocline {

ManagerObject::ManagerObject(sdbus::IConnection& connection, PendingCalls& calls, Authorizer& authorizer,
                             Daemon& daemon, std::string hypervisorUri)
    : AdaptorInterfaces(connection, Bus::rootPath),
      calls_(calls),
      authorizer_(authorizer),
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

void ManagerObject::budgetChanged() {
    sendIfPossible([&] {
        emitPropertiesChangedSignal(Manager_adaptor::INTERFACE_NAME,
                                    {"Budget", "KeepFreeBytes", "BudgetNote"});
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

void ManagerObject::change(sdbus::Result<>&& result, std::function<Result<void>()> work) {
    // The object lives as long as the authorizer.
    authorizer_.check(senderOf(getObject()), Authorizer::Action::manageHost, std::nullopt, {},
                      [work = std::move(work), done = calls_.take(std::move(result))](Result<void> allowed) {
                          done(allowed ? work() : std::move(allowed));
                      });
}

void ManagerObject::ReloadConfiguration(sdbus::Result<>&& result) {
    change(std::move(result), [this] { return daemon_.reloadConfiguration(); });
}

void ManagerObject::SetBudget(sdbus::Result<>&& result, std::string budget, std::uint64_t keepFree) {
    change(std::move(result), [this, budget, keepFree]() -> Result<void> {
        if (budget.empty()) return daemon_.arbiter().setBudget(std::nullopt);
        const auto wanted = parseHostBudget(budget, keepFree);
        if (!wanted) return tl::unexpected<Error>(wanted.error());
        return daemon_.arbiter().setBudget(*wanted);
    });
}

std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::string, std::vector<ManagerObject::PlannedVm>>
ManagerObject::Plan(const std::string& budget, const std::uint64_t& keepFree) {
    const auto asked = budget.empty() ? Result<db::HostBudget>(daemon_.arbiter().budget())
                                      : parseHostBudget(budget, keepFree);
    if (!asked) throw toBusError(asked.error());
    const auto plan = daemon_.arbiter().plan(*asked);
    if (!plan) throw toBusError(plan.error());
    std::vector<PlannedVm> rows;
    for (std::size_t i = 0; i < plan->vms.size(); ++i) {
        const auto& vm = plan->inputs.at(i);
        const auto& allotment = plan->vms[i];
        const auto domain = daemon_.findByUuid(vm.uuid);
        rows.emplace_back(domainPath(vm.uuid), domain ? (*domain)->name() : vm.uuid, vm.priority, vm.floor,
                          vm.need, vm.used, vm.allotment, allotment.bytes, allotment.reason);
    }
    return {plan->budget, plan->used, plan->need, plan->note, std::move(rows)};
}

std::vector<ManagerObject::Decision> ManagerObject::GetDecisions(const std::uint64_t& since,
                                                                 const std::uint64_t& until) {
    const auto end = until == 0 ? db::systemNow() + std::chrono::seconds(1) : timeOnBus(until);
    const auto decisions = daemon_.arbiter().decisions().query(timeOnBus(since), end);
    if (!decisions) throw toBusError(decisions.error());
    std::vector<Decision> rows;
    for (const auto& decision : *decisions)
        rows.emplace_back(static_cast<std::uint64_t>(decision.time.time_since_epoch().count()), decision.uuid,
                          decision.before, decision.after, decision.reason);
    return rows;
}

std::string ManagerObject::Budget() {
    return formatHostBudget(daemon_.arbiter().budget());
}
std::uint64_t ManagerObject::KeepFreeBytes() {
    return daemon_.arbiter().budget().keepFree;
}
std::string ManagerObject::BudgetNote() {
    return daemon_.arbiter().note();
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
