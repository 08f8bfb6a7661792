// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "common/error.h"
#include "daemon/domain_rules.h"
#include "daemon/event_loop.h"
#include "daemon/manager_process.h"
#include "daemon/qemu_process.h"
#include "daemon/runtime_directory.h"
#include "daemon/turns.h"
#include "db/policy_store.h"
#include "memory/support.h"

namespace thermocline {

class Domain;

/// Everything outside that a Domain uses; must outlive it. Belongs to the loop's thread.
struct DomainEnvironment {
    EventLoop& loop;
    ManagerProcesses& managers;
    db::PolicyStore& policies;
    const QemuProcesses& processes;
    const RuntimeDirectory& runtime;
    std::function<Result<memory::GuestSupport>(pid_t)> probe;
    std::function<void(Domain&)> changed;  ///< anything that the accessors below say
    /// How long a manager may take to end once it has nothing to do any more.
    std::chrono::milliseconds endPatience = std::chrono::seconds(10);
    /// As Hypervisor::setOvercommit; where it is empty nothing is written back.
    std::function<void(const std::string&, std::optional<std::string>, std::function<void(Result<void>)>)>
        setOvercommit{};
    /// The rule for a domain for which nobody has said anything; empty: there are none.
    std::function<std::optional<DomainRules::Match>(const DomainInfo&)> rule{};
    /// Whether the host has a budget; empty: it has none.
    std::function<bool()> budgeted{};
    /// As Hypervisor::suspend; where it is empty nothing is paused.
    std::function<void(const std::string&, std::function<void(Result<void>)>)> suspend{};
    /// Of managers that run another program than the installed one; none: they stay.
    Turns* replacements = nullptr;
    /// So often a manager that died at once after it recovered a VM is followed by another; the pause before
    /// the second doubles each time.
    std::size_t mostRecoveries = 12;
    std::chrono::milliseconds recoveryPause = std::chrono::milliseconds(50);
    /// Who has shared guest RAM is looked for so often while a VM that has it is attached.
    std::chrono::milliseconds mapperInterval = std::chrono::seconds(5);
};

}  // namespace thermocline
