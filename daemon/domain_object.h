// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "daemon/authorizer.h"
#include "daemon/daemon.h"
#include "daemon/domain.h"
#include "daemon/pending_calls.h"
#include "dbus/domain_adaptor.h"

namespace thermocline {

/// One domain on D-Bus, as dbus/org.thermocline1.Domain.xml says.
/// Belongs to the loop's thread; the others must outlive it.
class DomainObject final
    : public sdbus::AdaptorInterfaces<org::thermocline1::Domain_adaptor, sdbus::ManagedObject_adaptor,
                                      sdbus::Properties_adaptor> {
  public:
    using Sample = sdbus::Struct<std::uint64_t, std::uint32_t, std::uint64_t, std::uint64_t, std::uint64_t,
                                 std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t,
                                 std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t,
                                 std::uint64_t, double, std::uint64_t, std::uint64_t>;

    using Piece = sdbus::Struct<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>;

    DomainObject(sdbus::IConnection& connection, PendingCalls& calls, Authorizer& authorizer, Daemon& daemon,
                 Domain& domain);
    ~DomainObject();
    DomainObject(const DomainObject&) = delete;
    DomainObject& operator=(const DomainObject&) = delete;

    void markChanged() { dirty_ = true; }
    /// One PropertiesChanged with what differs from the last one; nothing where nothing does.
    void emitChanges();

  private:
    using Value = std::variant<bool, std::uint64_t, double, std::string>;
    using Values = std::vector<std::pair<const char*, Value>>;
    Values values();

    using Work = std::function<void(Domain::Done)>;
    /// Does it, and answers, once the caller may.
    void change(sdbus::Result<>&& result, Work work);

    void Attach(sdbus::Result<>&& result) override;
    void Detach(sdbus::Result<>&& result) override;
    void SetLimit(sdbus::Result<>&& result, std::uint64_t bytes) override;
    void ClearLimit(sdbus::Result<>&& result) override;
    void SetProactive(sdbus::Result<>&& result, double maxStall, std::uint64_t minResidentBytes) override;
    void SetPriority(sdbus::Result<>&& result, std::uint32_t priority) override;
    void SetFreezePaused(sdbus::Result<>&& result, std::uint32_t seconds) override;
    void CloseFileTier(sdbus::Result<>&& result) override;
    void GetHeat(sdbus::Result<std::uint64_t, std::vector<Piece>>&& result, std::uint32_t pieces) override;
    std::vector<Sample> GetHistory(const std::uint64_t& since, const std::uint64_t& until,
                                   const std::string& resolution) override;

    std::string Name() override;
    std::string Uuid() override;
    std::uint32_t Pid() override;
    bool Running() override;
    std::string State() override;
    std::string StateNote() override;
    bool Managed() override;
    std::string Mechanism() override;
    bool Supported() override;
    std::string SupportReason() override;
    std::string SupportFix() override;
    std::uint64_t MemoryBytes() override;
    std::uint64_t ResidentBytes() override;
    std::uint64_t StagedBytes() override;
    std::uint64_t ColdBytes() override;
    std::uint64_t StoreBytes() override;
    std::uint64_t FrozenBytes() override;
    std::uint64_t FileBytes() override;
    std::string FileTier() override;
    std::uint64_t MetadataBytes() override;
    std::uint64_t UsedBytes() override;
    std::uint64_t LimitBytes() override;
    std::string HookPhase() override;
    std::string SettingsNote() override;
    std::string Policy() override;
    std::string PolicyNote() override;
    double ProactiveMaxStall() override;
    std::uint64_t MinResidentBytes() override;
    bool LimitMet() override;
    std::string LimitNote() override;
    std::string Activity() override;
    std::uint32_t FreezePausedSeconds() override;
    std::uint32_t Priority() override;
    std::uint64_t AllotmentBytes() override;
    std::string AllotmentNote() override;
    std::uint64_t Faults() override;
    std::uint64_t StagedFaults() override;
    std::uint64_t ColdFaults() override;
    std::uint64_t FrozenFaults() override;
    std::uint64_t ZeroFaults() override;
    std::uint64_t LostPages() override;
    std::uint64_t EvictedPages() override;
    std::uint64_t PrefetchedPages() override;
    std::uint64_t StallNanoseconds() override;
    double StallRatio() override;
    std::uint64_t AttachPauseMicroseconds() override;
    std::uint64_t ManagerRssBytes() override;

    PendingCalls& calls_;
    Authorizer& authorizer_;
    Daemon& daemon_;
    Domain& domain_;
    bool dirty_ = false;
    Values last_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  ///< for answers of the authorizer
};

}  // namespace thermocline
