// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cli/failure.h"
#include "memory/heat_map.h"
#include "memory/support.h"

namespace thermocline::cli {

/// All properties of org.thermocline1.Domain, in one moment.
struct DomainFigures {
    std::string path;
    std::string name, uuid, state, stateNote, mechanism, supportReason, supportFix, limitNote, fileTier,
        policy, policyNote, settingsNote, allotmentNote, activity;
    bool running = false, managed = false, supported = false, limitMet = true;
    std::uint32_t pid = 0, priority = 100, freezePausedSeconds = 0;
    std::uint64_t memoryBytes = 0, residentBytes = 0, stagedBytes = 0, coldBytes = 0, storeBytes = 0,
                  metadataBytes = 0, usedBytes = 0, limitBytes = 0, faults = 0, stagedFaults = 0,
                  coldFaults = 0, zeroFaults = 0, evictedPages = 0, stallNanoseconds = 0,
                  attachPauseMicroseconds = 0, managerRssBytes = 0, prefetchedPages = 0, minResidentBytes = 0,
                  frozenBytes = 0, fileBytes = 0, frozenFaults = 0, allotmentBytes = 0;
    double stallRatio = 0, proactiveMaxStall = 0;

    [[nodiscard]] bool attached() const { return state == "attached" || state == "detaching"; }
    /// Memory that the host has back: what the store and the file tier hold, less what they take of it.
    [[nodiscard]] std::uint64_t savedBytes() const {
        const auto taken = storeBytes + metadataBytes;
        const auto away = coldBytes + frozenBytes;
        return away > taken ? away - taken : 0;
    }
};

struct ManagerFigures {
    std::string version, hypervisorState, hypervisorUri, hypervisorDetail, configurationNote, budget,
        budgetNote;
    std::uint64_t keepFreeBytes = 0;
};

/// What Plan says.
struct PlanFigures {
    struct Vm {
        std::string path, name;
        std::uint32_t priority = 0;
        std::uint64_t floor = 0, need = 0, used = 0, before = 0, after = 0;
        std::string reason;
    };
    std::uint64_t available = 0, used = 0, need = 0;
    std::string note;
    std::vector<Vm> vms;
};

/// One row of GetDecisions.
struct DecisionRow {
    std::uint64_t time = 0;
    std::string uuid;
    std::uint64_t before = 0, after = 0;
    std::string reason;
};

/// One row of GetHistory (dbus/org.thermocline1.Domain.xml).
struct HistorySample {
    std::uint64_t time = 0;
    std::uint32_t span = 1;
    std::uint64_t memory = 0, resident = 0, staged = 0, cold = 0, store = 0, metadata = 0, used = 0,
                  limit = 0;
    std::uint64_t faults = 0, stagedFaults = 0, coldFaults = 0, zeroFaults = 0, evictedPages = 0,
                  stallNanoseconds = 0;
    double stallRatioMax = 0;
    std::uint64_t frozen = 0, frozenFaults = 0;
    bool operator==(const HistorySample&) const = default;
};

/// thermoclined over D-Bus, as blocking calls. Failures carry the
/// exit code that they mean. Not thread-safe: one client per thread.
class Client {
  public:
    /// `bus`: "system", "session" or an address. Failures: unreachable.
    static Expected<Client> connect(const std::string& bus);

    Expected<ManagerFigures> manager();
    Expected<std::vector<memory::Finding>> doctor();
    /// `budget` as in SetBudget.
    Expected<void> setBudget(const std::string& budget, std::uint64_t keepFreeBytes);
    Expected<PlanFigures> plan(const std::string& budget, std::uint64_t keepFreeBytes);
    /// since <= time < until; about the host, too.
    Expected<std::vector<DecisionRow>> decisions(std::chrono::sys_seconds since,
                                                 std::chrono::sys_seconds until);
    /// All domains, by name.
    Expected<std::vector<DomainFigures>> domains();
    /// By name, else by UUID. Failures: noSuchDomain.
    Expected<DomainFigures> domain(const std::string& nameOrUuid);
    Expected<DomainFigures> refresh(const DomainFigures& domain);

    /// These return when it is done, however long it takes.
    Expected<void> attach(const DomainFigures& domain);
    Expected<void> detach(const DomainFigures& domain);
    Expected<void> setLimit(const DomainFigures& domain, std::uint64_t bytes);
    Expected<void> clearLimit(const DomainFigures& domain);
    /// maxStall 0: off.
    Expected<void> setProactive(const DomainFigures& domain, double maxStall, std::uint64_t minResidentBytes);
    /// 0: never.
    Expected<void> setFreezePaused(const DomainFigures& domain, std::uint32_t seconds);
    Expected<void> setPriority(const DomainFigures& domain, std::uint32_t priority);
    /// Returns when it has begun; `fileTier` tells the rest.
    Expected<void> closeFileTier(const DomainFigures& domain);
    Expected<memory::HeatMap> heat(const DomainFigures& domain, std::uint32_t pieces);
    /// since <= time < until. resolution: "raw", "minute", "auto".
    Expected<std::vector<HistorySample>> history(const DomainFigures& domain, std::chrono::sys_seconds since,
                                                 std::chrono::sys_seconds until,
                                                 const std::string& resolution);

  private:
    explicit Client(std::unique_ptr<sdbus::IConnection> connection) : connection_(std::move(connection)) {}
    Expected<DomainFigures> figuresOf(const std::string& path);

    std::unique_ptr<sdbus::IConnection> connection_;
};

/// What a D-Bus error means for whoever called thermoctl.
Failure toFailure(const sdbus::Error& error);

}  // namespace thermocline::cli
