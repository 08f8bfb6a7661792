// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/domain.h"
#include "daemon/domain_rules.h"
#include "daemon/event_loop.h"
#include "daemon/history_recorder.h"
#include "daemon/hook_socket.h"
#include "daemon/host_arbiter.h"
#include "daemon/hypervisor.h"
#include "daemon/manager_process.h"
#include "daemon/qemu_process.h"
#include "daemon/runtime_directory.h"
#include "daemon/turns.h"
#include "db/history_store.h"
#include "db/policy_store.h"
#include "memory/support.h"

namespace thermocline {

/// All domains, by what the hypervisor, the managers and the database say. D-Bus stands on
/// top of it (bus.h) and is told of changes as an Observer. Belongs to the loop's thread.
class Daemon : private Hypervisor::Listener {
  public:
    class Observer {
      public:
        virtual ~Observer() = default;
        virtual void domainAdded(Domain& domain) = 0;
        virtual void domainRemoved(Domain& domain) = 0;
        virtual void domainChanged(Domain& domain) = 0;
        virtual void hypervisorChanged() = 0;
        virtual void budgetChanged() = 0;
    };
    /// What stands outside; all of it must outlive the daemon.
    struct Parts {
        EventLoop& loop;
        Hypervisor& hypervisor;
        db::Database& database;
        RuntimeDirectory& runtime;
        const QemuProcesses& processes;
        std::filesystem::path managerExecutable;
        std::chrono::milliseconds managerTimeout = std::chrono::seconds(60);  ///< to get ready, and to cure
        std::chrono::milliseconds managerEndPatience = std::chrono::seconds(10);  ///< to end once it is done
        std::function<Result<memory::GuestSupport>(pid_t)> probeGuest = [](pid_t pid) {
            return memory::probeGuest(pid);
        };
        FileTier fileTier{};  ///< of VMs that are attached from now on
        PolicyFile policy{};  ///< likewise
        /// How they take pages out of guest RAM; none: the best that works here.
        std::optional<memory::Mechanism> mechanism{};
        std::filesystem::path configDirectory{};  ///< of DomainRules; empty: there are none
        db::HostBudget budget{};                  ///< unless another one was set
    };

    explicit Daemon(Parts parts);
    ~Daemon() override;

    /// Finds managers that outlived the last daemon, then follows the hypervisor. Once.
    void start(Observer& observer);
    /// Calls `finished` once libvirt has got all that is to stand in its domains' metadata: at once where it
    /// has, else as soon as it has or has had long enough for it. A second call ends the waiting.
    void finish(EventLoop::Task finished);
    /// The observer is going away: it is told nothing any more.
    void unobserve() { observer_ = nullptr; }

    /// Reads the rules for new domains again, and has them followed. On an error, which names file, line and
    /// remedy, the former rules stay.
    Result<void> reloadConfiguration();
    /// The error of the last reading of the rules; empty: there was none.
    [[nodiscard]] const std::string& configurationNote() const { return configurationNote_; }

    [[nodiscard]] std::vector<Domain*> domains() const;
    /// Errors: noSuchDomain; hypervisorUnavailable where it is not known and libvirt cannot be asked.
    Result<Domain*> findByName(const std::string& name) const;
    /// With or without dashes, any case. Also invalidArgument.
    Result<Domain*> findByUuid(const std::string& uuid) const;
    /// For requests that need libvirt's word on a domain: hypervisorUnavailable while it is away.
    [[nodiscard]] Result<void> checkHypervisor() const;
    [[nodiscard]] bool hypervisorConnected() const { return connected_; }
    [[nodiscard]] const std::string& hypervisorDetail() const { return detail_; }
    [[nodiscard]] db::HistoryStore& history() { return history_; }
    [[nodiscard]] HostArbiter& arbiter() { return arbiter_; }

  private:
    void hypervisorConnected(const std::vector<DomainInfo>& domains) override;
    void hypervisorLost(const std::string& why) override;
    void domainChanged(const DomainInfo& info) override;
    void domainMetadataChanged(const DomainInfo& info) override;
    void domainRemoved(const std::string& uuid) override;
    void domainRebooted(const std::string& uuid) override;

    void hookTold(const HookMessage& message);
    [[nodiscard]] std::vector<HostArbiter::Vm> attachedVms() const;
    Domain& domainOf(const std::string& uuid, const std::string& name);
    void removeForgotten();
    void setOvercommit(const std::string& uuid, std::optional<std::string> element,
                       std::function<void(Result<void>)> done);
    Error unknown(const std::string& what) const;

    EventLoop& loop_;
    Hypervisor& hypervisor_;
    RuntimeDirectory& runtime_;
    db::PolicyStore policies_;
    db::HistoryStore history_;
    HistoryRecorder recorder_;
    HostArbiter arbiter_;
    ManagerProcesses managers_;
    Turns replacements_;
    std::filesystem::path configDirectory_;
    DomainRules rules_;
    std::string configurationNote_;
    Domain::Environment environment_;
    Observer* observer_ = nullptr;
    struct Entry {
        std::unique_ptr<Domain> domain;
        bool known =
            true;  ///< to the hypervisor, as far as we heard; if not, it goes once nothing of ours is in it
    };
    std::map<std::string, Entry> entries_;
    EventLoop::Source removal_;
    int writes_ = 0;  ///< into metadata, under way
    EventLoop::Task finished_;
    EventLoop::Source finishing_;
    std::unique_ptr<HookSocket> hook_;
    std::map<std::string, std::string> hookPhases_;  ///< by name, of domains that libvirt has not told of yet
    bool connected_ = false;
    std::string detail_ = "not connected to libvirtd yet; it is being tried";
};

/// "6695EB01F6A4830479AA97F2502E193F" ->
/// "6695eb01-f6a4-8304-79aa-97f2502e193f". invalidArgument for anything else.
Result<std::string> normalizeUuid(const std::string& text);

}  // namespace thermocline
