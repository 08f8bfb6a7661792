// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <utility>

#include "dbus/domain_proxy.h"
#include "dbus/manager_proxy.h"

namespace thermocline::cli {
namespace {

constexpr const char* busName = "org.thermocline1";
constexpr const char* rootPath = "/org/thermocline1";
constexpr const char* domainInterface = "org.thermocline1.Domain";
constexpr std::string_view errorPrefix = "org.thermocline1.Error.";

class ManagerProxy final
    : public sdbus::ProxyInterfaces<org::thermocline1::Manager_proxy, sdbus::ObjectManager_proxy> {
  public:
    explicit ManagerProxy(sdbus::IConnection& connection) : ProxyInterfaces(connection, busName, rootPath) {
        registerProxy();
    }
    ManagerProxy(const ManagerProxy&) = delete;
    ManagerProxy& operator=(const ManagerProxy&) = delete;
    ~ManagerProxy() { unregisterProxy(); }

  private:
    // Only calls are made; nobody runs a loop that would deliver signals.
    void onDomainAdded(const sdbus::ObjectPath& /*domain*/) override {}
    void onDomainRemoved(const sdbus::ObjectPath& /*domain*/) override {}
    void onInterfacesAdded(
        const sdbus::ObjectPath& /*path*/,
        const std::map<std::string, std::map<std::string, sdbus::Variant>>& /*interfaces*/) override {}
    void onInterfacesRemoved(const sdbus::ObjectPath& /*path*/,
                             const std::vector<std::string>& /*interfaces*/) override {}
};

class DomainProxy final : public sdbus::ProxyInterfaces<org::thermocline1::Domain_proxy> {
  public:
    DomainProxy(sdbus::IConnection& connection, const std::string& path)
        : ProxyInterfaces(connection, busName, path) {
        registerProxy();
    }
    DomainProxy(const DomainProxy&) = delete;
    DomainProxy& operator=(const DomainProxy&) = delete;
    ~DomainProxy() { unregisterProxy(); }
};

using Properties = std::map<std::string, sdbus::Variant>;

/// A property that an older daemon does not have keeps its default.
template <typename T>
void take(const Properties& properties, const char* name, T& target) {
    if (const auto found = properties.find(name); found != properties.end()) target = found->second.get<T>();
}

DomainFigures toFigures(std::string path, const Properties& properties) {
    DomainFigures figures;
    figures.path = std::move(path);
    take(properties, "Name", figures.name);
    take(properties, "Uuid", figures.uuid);
    take(properties, "Pid", figures.pid);
    take(properties, "Running", figures.running);
    take(properties, "State", figures.state);
    take(properties, "StateNote", figures.stateNote);
    take(properties, "Managed", figures.managed);
    take(properties, "SettingsNote", figures.settingsNote);
    take(properties, "Mechanism", figures.mechanism);
    take(properties, "Supported", figures.supported);
    take(properties, "SupportReason", figures.supportReason);
    take(properties, "SupportFix", figures.supportFix);
    take(properties, "MemoryBytes", figures.memoryBytes);
    take(properties, "ResidentBytes", figures.residentBytes);
    take(properties, "StagedBytes", figures.stagedBytes);
    take(properties, "ColdBytes", figures.coldBytes);
    take(properties, "StoreBytes", figures.storeBytes);
    take(properties, "FrozenBytes", figures.frozenBytes);
    take(properties, "FileBytes", figures.fileBytes);
    take(properties, "FileTier", figures.fileTier);
    take(properties, "MetadataBytes", figures.metadataBytes);
    take(properties, "UsedBytes", figures.usedBytes);
    take(properties, "LimitBytes", figures.limitBytes);
    take(properties, "ProactiveMaxStall", figures.proactiveMaxStall);
    take(properties, "MinResidentBytes", figures.minResidentBytes);
    take(properties, "Policy", figures.policy);
    take(properties, "PolicyNote", figures.policyNote);
    take(properties, "Activity", figures.activity);
    take(properties, "FreezePausedSeconds", figures.freezePausedSeconds);
    take(properties, "Priority", figures.priority);
    take(properties, "AllotmentBytes", figures.allotmentBytes);
    take(properties, "AllotmentNote", figures.allotmentNote);
    take(properties, "LimitMet", figures.limitMet);
    take(properties, "LimitNote", figures.limitNote);
    take(properties, "Faults", figures.faults);
    take(properties, "StagedFaults", figures.stagedFaults);
    take(properties, "ColdFaults", figures.coldFaults);
    take(properties, "FrozenFaults", figures.frozenFaults);
    take(properties, "ZeroFaults", figures.zeroFaults);
    take(properties, "EvictedPages", figures.evictedPages);
    take(properties, "PrefetchedPages", figures.prefetchedPages);
    take(properties, "StallNanoseconds", figures.stallNanoseconds);
    take(properties, "StallRatio", figures.stallRatio);
    take(properties, "AttachPauseMicroseconds", figures.attachPauseMicroseconds);
    take(properties, "ManagerRssBytes", figures.managerRssBytes);
    return figures;
}

/// Runs `call`, which talks to the daemon, and turns what sdbus-c++ throws into a Failure.
template <typename Call>
auto guarded(Call call) -> Expected<decltype(call())> {
    try {
        if constexpr (std::is_void_v<decltype(call())>) {
            call();
            return {};
        } else {
            return call();
        }
    } catch (const sdbus::Error& error) {
        return tl::unexpected<Failure>(toFailure(error));
    }
}

std::uint64_t onBus(std::chrono::sys_seconds time) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(time.time_since_epoch().count(), 0));
}

constexpr const char* startIt = "start it: systemctl start thermoclined (or, as root: thermoclined &)";

}  // namespace

Failure toFailure(const sdbus::Error& error) {
    const std::string& name = error.getName();
    const std::string& message = error.getMessage();
    if (name.starts_with(errorPrefix)) {
        const std::string ours = name.substr(errorPrefix.size());
        const auto code = errorCodeFromName(ours);
        return {code == ErrorCode::noSuchDomain   ? ExitCode::noSuchDomain
                : code == ErrorCode::notSupported ? ExitCode::notSupported
                                                  : ExitCode::failure,
                ours, message};
    }
    if (name == "org.freedesktop.DBus.Error.AccessDenied")
        return {ExitCode::failure, "PermissionDenied", fmt::format("{}; run thermoctl as root", message)};
    if (name == "org.freedesktop.DBus.Error.UnknownObject" ||
        name == "org.freedesktop.DBus.Error.UnknownMethod")
        return {ExitCode::noSuchDomain, "NoSuchDomain", "the domain is gone"};
    constexpr std::array unreachable{
        "org.freedesktop.DBus.Error.ServiceUnknown",  "org.freedesktop.DBus.Error.NameHasNoOwner",
        "org.freedesktop.DBus.Error.NoReply",         "org.freedesktop.DBus.Error.Disconnected",
        "org.freedesktop.DBus.Error.NoServer",        "org.freedesktop.DBus.Error.FileNotFound",
        "org.freedesktop.DBus.Error.Spawn.ExecFailed"};
    if (std::find(unreachable.begin(), unreachable.end(), name) != unreachable.end())
        return {ExitCode::unreachable, "DaemonUnreachable",
                fmt::format("thermoclined does not answer ({}); {}", message, startIt)};
    return {ExitCode::failure, name, message};
}

Expected<Client> Client::connect(const std::string& bus) {
    try {
        auto connection = bus == "system"    ? sdbus::createSystemBusConnection()
                          : bus == "session" ? sdbus::createSessionBusConnection()
                                             : sdbus::createSessionBusConnectionWithAddress(bus);
        return Client(std::move(connection));
    } catch (const sdbus::Error& error) {
        return fail(
            ExitCode::unreachable, "DaemonUnreachable",
            fmt::format(
                "cannot connect to the bus \"{}\" ({}); start it (systemctl start dbus, or dbus-daemon "
                "--system --fork), then thermoclined",
                bus, error.getMessage()));
    }
}

Expected<ManagerFigures> Client::manager() {
    return guarded([&] {
        ManagerProxy proxy(*connection_);
        ManagerFigures figures{proxy.Version(),
                               proxy.HypervisorState(),
                               proxy.HypervisorUri(),
                               proxy.HypervisorDetail(),
                               {},
                               {},
                               {},
                               0};
        try {
            figures.configurationNote = proxy.ConfigurationNote();
            figures.budget = proxy.Budget();
            figures.budgetNote = proxy.BudgetNote();
            figures.keepFreeBytes = proxy.KeepFreeBytes();
        } catch (const sdbus::Error& /*older*/) {  // a daemon that has no such property yet
        }
        return figures;
    });
}

Expected<std::vector<memory::Finding>> Client::doctor() {
    return guarded([&] {
        std::vector<memory::Finding> findings;
        for (const auto& finding : ManagerProxy(*connection_).Doctor())
            findings.push_back({finding.get<0>(), finding.get<1>(), finding.get<2>(), finding.get<3>()});
        return findings;
    });
}

Expected<void> Client::setBudget(const std::string& budget, std::uint64_t keepFreeBytes) {
    return guarded([&] { ManagerProxy(*connection_).SetBudget(budget, keepFreeBytes); });
}

Expected<PlanFigures> Client::plan(const std::string& budget, std::uint64_t keepFreeBytes) {
    return guarded([&] {
        auto [available, used, need, note, rows] = ManagerProxy(*connection_).Plan(budget, keepFreeBytes);
        PlanFigures plan{available, used, need, std::move(note), {}};
        for (const auto& row : rows)
            plan.vms.push_back({row.get<0>(), row.get<1>(), row.get<2>(), row.get<3>(), row.get<4>(),
                                row.get<5>(), row.get<6>(), row.get<7>(), row.get<8>()});
        return plan;
    });
}

Expected<std::vector<DecisionRow>> Client::decisions(std::chrono::sys_seconds since,
                                                     std::chrono::sys_seconds until) {
    return guarded([&] {
        std::vector<DecisionRow> decisions;
        for (const auto& row : ManagerProxy(*connection_).GetDecisions(onBus(since), onBus(until)))
            decisions.push_back({row.get<0>(), row.get<1>(), row.get<2>(), row.get<3>(), row.get<4>()});
        return decisions;
    });
}

Expected<std::vector<DomainFigures>> Client::domains() {
    return guarded([&] {
        std::vector<DomainFigures> domains;
        for (const auto& [path, interfaces] : ManagerProxy(*connection_).GetManagedObjects())
            if (const auto domain = interfaces.find(domainInterface); domain != interfaces.end())
                domains.push_back(toFigures(path, domain->second));
        std::sort(domains.begin(), domains.end(),
                  [](const auto& a, const auto& b) { return a.name < b.name; });
        return domains;
    });
}

Expected<DomainFigures> Client::figuresOf(const std::string& path) {
    return guarded([&] {
        Properties properties;
        sdbus::createProxy(*connection_, busName, path)
            ->callMethod("GetAll")
            .onInterface("org.freedesktop.DBus.Properties")
            .withArguments(std::string(domainInterface))
            .storeResultsTo(properties);
        return toFigures(path, properties);
    });
}

Expected<DomainFigures> Client::domain(const std::string& nameOrUuid) {
    auto path = guarded([&] { return ManagerProxy(*connection_).LookupByName(nameOrUuid); });
    if (!path && path.error().code != ExitCode::unreachable) {
        // A name may look like a UUID, so names come first; of two failures the name's is the one to tell.
        if (auto byUuid = guarded([&] { return ManagerProxy(*connection_).LookupByUuid(nameOrUuid); }))
            path = *byUuid;
    }
    if (!path) return tl::unexpected<Failure>(path.error());
    return figuresOf(*path);
}

Expected<DomainFigures> Client::refresh(const DomainFigures& domain) {
    return figuresOf(domain.path);
}

Expected<void> Client::attach(const DomainFigures& domain) {
    return guarded([&] { DomainProxy(*connection_, domain.path).Attach(); });
}

Expected<void> Client::detach(const DomainFigures& domain) {
    return guarded([&] { DomainProxy(*connection_, domain.path).Detach(); });
}

Expected<void> Client::setLimit(const DomainFigures& domain, std::uint64_t bytes) {
    return guarded([&] { DomainProxy(*connection_, domain.path).SetLimit(bytes); });
}

Expected<void> Client::clearLimit(const DomainFigures& domain) {
    return guarded([&] { DomainProxy(*connection_, domain.path).ClearLimit(); });
}

Expected<void> Client::setProactive(const DomainFigures& domain, double maxStall,
                                    std::uint64_t minResidentBytes) {
    return guarded([&] { DomainProxy(*connection_, domain.path).SetProactive(maxStall, minResidentBytes); });
}

Expected<void> Client::setFreezePaused(const DomainFigures& domain, std::uint32_t seconds) {
    return guarded([&] { DomainProxy(*connection_, domain.path).SetFreezePaused(seconds); });
}

Expected<void> Client::setPriority(const DomainFigures& domain, std::uint32_t priority) {
    return guarded([&] { DomainProxy(*connection_, domain.path).SetPriority(priority); });
}

Expected<void> Client::closeFileTier(const DomainFigures& domain) {
    return guarded([&] { DomainProxy(*connection_, domain.path).CloseFileTier(); });
}

Expected<memory::HeatMap> Client::heat(const DomainFigures& domain, std::uint32_t pieces) {
    return guarded([&] {
        memory::HeatMap map;
        const auto [workingSet, rows] = DomainProxy(*connection_, domain.path).GetHeat(pieces);
        map.workingSetBytes = workingSet;
        for (const auto& row : rows)
            map.pieces.push_back({row.get<0>(), row.get<1>(), row.get<2>(), row.get<3>()});
        return map;
    });
}

Expected<std::vector<HistorySample>> Client::history(const DomainFigures& domain,
                                                     std::chrono::sys_seconds since,
                                                     std::chrono::sys_seconds until,
                                                     const std::string& resolution) {
    return guarded([&] {
        std::vector<HistorySample> samples;
        for (const auto& row :
             DomainProxy(*connection_, domain.path).GetHistory(onBus(since), onBus(until), resolution))
            samples.push_back({row.get<0>(), row.get<1>(), row.get<2>(), row.get<3>(), row.get<4>(),
                               row.get<5>(), row.get<6>(), row.get<7>(), row.get<8>(), row.get<9>(),
                               row.get<10>(), row.get<11>(), row.get<12>(), row.get<13>(), row.get<14>(),
                               row.get<15>(), row.get<16>(), row.get<17>(), row.get<18>()});
        return samples;
    });
}

}  // namespace thermocline::cli
