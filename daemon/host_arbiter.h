// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/arbiter.h"
#include "daemon/event_loop.h"
#include "daemon/host_memory.h"
#include "daemon/memory_need.h"
#include "daemon/pressure_relief.h"
#include "db/budget_store.h"
#include "db/decision_store.h"

namespace thermocline {

/// Keeps all attached VMs of the host within one budget (arbiter.h says how): looks once a second, and at
/// once when the host waits for memory. What it changes goes into the history with its reason. Without a
/// budget, which is how it begins, it binds nobody. A database that fails costs explanations, never an
/// attached VM. Belongs to the loop's thread.
class HostArbiter {
  public:
    using Time = std::chrono::steady_clock::time_point;

    /// An attached VM.
    struct Vm {
        std::string uuid;
        std::uint32_t priority = defaultPriority;
        std::uint64_t minResident = 0;
        std::uint64_t ceiling = 0;    ///< as in ArbiterVm
        std::uint64_t allotment = 0;  ///< in force
        manager::Status status;
    };
    /// The world, and a seam for tests.
    struct Outside {
        std::function<std::vector<Vm>()> vms;
        std::function<void(const std::string& uuid, std::uint64_t bytes, const std::string& reason)> allot;
        std::function<void()> changed;  ///< budget(), or note()
        std::function<Result<HostMemory>()> memory = readHostMemory;
        std::function<Time()> now = std::chrono::steady_clock::now;
    };

    /// `configured` holds unless, or until, another one is set.
    HostArbiter(EventLoop& loop, db::Database& database, db::HostBudget configured, Outside outside);
    /// Begins to look, and to watch the host's pressure.
    void start();

    /// In force.
    [[nodiscard]] const db::HostBudget& budget() const { return budget_; }
    /// How the budget came about and what does not work out, for a person. Empty where there is none.
    [[nodiscard]] const std::string& note() const { return note_; }
    /// What the budget had to give out when it was looked at last; 0: there is none.
    [[nodiscard]] std::uint64_t available() const { return available_; }
    /// Remembered; nullopt forgets it, and the configured one holds again. databaseError: nothing has
    /// changed.
    Result<void> setBudget(const std::optional<db::HostBudget>& budget);
    /// What would be done with this budget. invalidArgument where it is off; systemError.
    [[nodiscard]] Result<Division> plan(const db::HostBudget& budget) const;

    /// What it does each second.
    void tick();
    /// What it does when the host has waited for memory.
    void pressed();
    db::DecisionStore& decisions() { return decisions_; }

  private:
    [[nodiscard]] std::vector<ArbiterVm> inputs(const std::vector<Vm>& vms) const;
    void observe(const std::vector<Vm>& vms);
    void apply(const std::vector<Vm>& vms);
    void release();
    void say(const std::string& note);
    void record(const std::vector<db::Decision>& decisions);

    EventLoop& loop_;
    db::BudgetStore store_;
    db::DecisionStore decisions_;
    db::HostBudget configured_;
    db::HostBudget budget_;
    Outside outside_;
    std::map<std::string, MemoryNeed> needs_;
    PressureRelief relief_;
    std::string note_;
    std::uint64_t available_ = 0;
    bool failing_ = false;
    EventLoop::Source timer_;
    std::unique_ptr<HostPressure> pressure_;
};

}  // namespace thermocline
