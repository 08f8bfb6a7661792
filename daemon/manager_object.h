// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <functional>
#include <string>
#include <vector>

#include "daemon/authorizer.h"
#include "daemon/daemon.h"
#include "daemon/pending_calls.h"
#include "dbus/manager_adaptor.h"

namespace thermocline {

/// /org/thermocline1, as dbus/org.thermocline1.Manager.xml says. Belongs to the loop's thread.
class ManagerObject final
    : public sdbus::AdaptorInterfaces<org::thermocline1::Manager_adaptor, sdbus::ObjectManager_adaptor,
                                      sdbus::Properties_adaptor> {
  public:
    ManagerObject(sdbus::IConnection& connection, PendingCalls& calls, Authorizer& authorizer, Daemon& daemon,
                  std::string hypervisorUri);
    ~ManagerObject();
    ManagerObject(const ManagerObject&) = delete;
    ManagerObject& operator=(const ManagerObject&) = delete;

    void domainAdded(const sdbus::ObjectPath& path);
    void domainRemoved(const sdbus::ObjectPath& path);
    void hypervisorChanged();
    void budgetChanged();

  private:
    using PlannedVm = sdbus::Struct<sdbus::ObjectPath, std::string, std::uint32_t, std::uint64_t,
                                    std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t, std::string>;
    using Decision = sdbus::Struct<std::uint64_t, std::string, std::uint64_t, std::uint64_t, std::string>;

    std::vector<sdbus::ObjectPath> ListDomains() override;
    sdbus::ObjectPath LookupByName(const std::string& name) override;
    sdbus::ObjectPath LookupByUuid(const std::string& uuid) override;
    std::vector<sdbus::Struct<std::string, bool, std::string, std::string>> Doctor() override;
    /// Does it, and answers, once the caller may.
    void change(sdbus::Result<>&& result, std::function<Result<void>()> work);
    void ReloadConfiguration(sdbus::Result<>&& result) override;
    void SetBudget(sdbus::Result<>&& result, std::string budget, std::uint64_t keepFree) override;
    std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::string, std::vector<PlannedVm>> Plan(
        const std::string& budget, const std::uint64_t& keepFree) override;
    std::vector<Decision> GetDecisions(const std::uint64_t& since, const std::uint64_t& until) override;
    std::string Budget() override;
    std::uint64_t KeepFreeBytes() override;
    std::string BudgetNote() override;
    std::string Version() override;
    std::string ConfigurationNote() override;
    std::string HypervisorState() override;
    std::string HypervisorUri() override;
    std::string HypervisorDetail() override;
    std::vector<sdbus::ObjectPath> Domains() override;

    PendingCalls& calls_;
    Authorizer& authorizer_;
    Daemon& daemon_;
    const std::string hypervisorUri_;
};

}  // namespace thermocline
