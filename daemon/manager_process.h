// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "common/error.h"
#include "daemon/child_process.h"
#include "daemon/file_tier.h"
#include "daemon/policy_file.h"
#include "memory/manager/protocol.h"
#include "memory/mechanism.h"

namespace thermocline {

/// How an attempt to attach ended. `clean` tells, for a failure, whether the manager said
/// that it undid everything; if not, it died halfway and the VM's process has to be cured.
struct AttachFailure {
    Error error;
    bool clean = true;
};

/// Starts `thermocline-manager` (docs/manager-protocol.md) and waits, without
/// blocking, for what it says. Keeps the child until it ended, so that it is reaped;
/// managers live on when the daemon ends. Belongs to the loop's thread; must outlive
/// it or be destroyed when the loop runs no more, after which no callback comes.
class ManagerProcesses {
  public:
    using RunDone = std::function<void(tl::expected<manager::Status, AttachFailure>)>;
    using CureDone = std::function<void(Result<void>)>;

    ManagerProcesses(EventLoop& loop, std::filesystem::path executable, std::chrono::milliseconds timeout,
                     FileTier fileTier = {}, PolicyFile policy = {},
                     std::optional<memory::Mechanism> mechanism = std::nullopt);
    ~ManagerProcesses();
    ManagerProcesses(const ManagerProcesses&) = delete;
    ManagerProcesses& operator=(const ManagerProcesses&) = delete;

    /// `run`: answers once the VM is attached or not. Where the manager says nothing in time it is killed.
    /// `recover`: it is to go on where another one died; a failure then leaves all as it was.
    void run(pid_t vm, const std::filesystem::path& stateDirectory, const std::string& name, RunDone done,
             bool recover = false);
    /// `cure`: answers when it ended. The error has what it wrote to stderr.
    void cure(pid_t vm, const std::filesystem::path& stateDirectory, CureDone done);

    /// Whether the installed program can go on with what is in `stateDirectory`; the error says why not.
    void check(const std::filesystem::path& stateDirectory, CureDone done);
    /// Whether that process runs the installed program; true also where that cannot be told.
    [[nodiscard]] bool isInstalled(pid_t manager) const;

  private:
    void runToEnd(std::vector<std::string> argv, CureDone done);
    struct Child;
    using Children = std::list<std::unique_ptr<Child>>;
    void start(Children::iterator child, const std::vector<std::string>& argv, int outputFd);

    EventLoop& loop_;
    std::filesystem::path executable_;
    std::chrono::milliseconds timeout_;
    FileTier fileTier_;
    PolicyFile policy_;
    std::optional<memory::Mechanism> mechanism_;
    Children children_;
};

}  // namespace thermocline
