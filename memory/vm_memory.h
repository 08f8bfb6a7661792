// SPDX-License-Identifier: Apache-2.0
#pragma once

// One VM's memory under management: the whole of this library behind one object. Knows nothing of libvirt or
// D-Bus. Public members may be called from any thread; setLimit and detach one at a time.

#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "memory/attachment.h"
#include "memory/budget.h"
#include "memory/fault_handler.h"
#include "memory/frozen_tier.h"
#include "memory/heat_map.h"
#include "memory/pager.h"
#include "memory/policy_host.h"
#include "memory/reclaimer.h"
#include "memory/status.h"

namespace thermocline::memory {

/// Names of the store's files in a VM's state directory.
inline constexpr const char* arenaFileName = "arena";
inline constexpr const char* pageMapFileName = "pagemap";
inline constexpr const char* eventJournalFileName = "events";
inline constexpr const char* frozenLedgerFileName = "frozen";
/// All of them; without the first there is nothing to recover.
inline constexpr std::array storeFileNames{eventJournalFileName, arenaFileName, pageMapFileName,
                                           frozenLedgerFileName};
void removeStoreFiles(const std::string& directory);

class VmMemory {
  public:
    struct Options {
        pid_t pid = 0;
        std::vector<VmRange> guestRam;  ///< from discoverGuestRam
        std::string stateDirectory;     ///< exists, private to us, on tmpfs
        std::function<void()>
            processEnded;  ///< called once, on the fault thread, when the VM's process is gone
        std::string userfaultfdDevice = "/dev/userfaultfd";
        Mechanism mechanism = Mechanism::move;  ///< one that host and guest support (support.h)
        /// A file tier for what is cold for long. Where it cannot be made the VM is attached without it, and
        /// Status::fileTier says why.
        std::optional<FrozenTierOptions> frozen;
        PolicySettings policy{};  ///< loaded by start(); where it cannot be, status() says why
    };

    /// Attaches; until a limit is set the guest's RAM is not even registered and costs nothing. Needs
    /// CAP_SYS_PTRACE. Starts no thread, so that the caller can drop its privileges before start(). On error
    /// nothing is left behind. Errors: as memory::attach(); outOfMemory.
    static Result<std::unique_ptr<VmMemory>> attach(Options options);
    /// Goes on where another manager died, with what it left in the state directory and in the process; as
    /// attach() else. `options`: guestRam and mechanism are those of the footprint. On error nothing has
    /// changed for the worse, and it can be tried again. Errors: processGone; busy where the other one lives;
    /// notAttached where it died at the end of a detach: all pages are back, and cure() is all that is left;
    /// notSupported, systemError.
    static Result<std::unique_ptr<VmMemory>> recover(Options options, const Footprint& footprint);
    /// Sends the agents of such a manager away, where it died before any page was away; the rest is for
    /// cure(). Error: as recover(); busy where pages may be away, and nothing is changed.
    static Result<void> dismiss(Options options, const Footprint& footprint);
    /// Stops managing at once, wherever pages are: for when the process has ended. A living VM is to be
    /// detach()ed first.
    ~VmMemory();
    VmMemory(const VmMemory&) = delete;
    VmMemory& operator=(const VmMemory&) = delete;

    /// Starts to serve. REQUIRES: once, before setLimit().
    void start();
    /// 0 = none. Returns at once; reclaim goes on behind. Error: invalidLimit, naming the range that is
    /// allowed.
    Result<void> setLimit(std::uint64_t bytes);
    /// Looks for cold memory as far as the stall allows, besides the limit; nothing = no longer. Error:
    /// invalidArgument, naming the range.
    Result<void> setProactive(std::optional<ProactivePolicy::Settings> settings);
    /// What the VM does now, which says what may be done with its memory; Activity::running at first.
    Result<void> setActivity(Activity activity);
    /// The file tier's kill switch: what is in it comes back into memory, then its key is overwritten and its
    /// file emptied; for good. Returns at once, Status::fileTier tells when it is done. Error: notSupported
    /// where there is none, which says why.
    Result<void> closeFileTier();
    /// The manager is about to end, and another one will recover() what it leaves: from now on the destructor
    /// leaves everything as it is, once what is under way has been carried out. Errors: notSupported where
    /// nobody could go on, with the reason; processGone.
    Result<void> handOver();
    /// Brings every page back, unregisters (before start() there is nothing to bring back), sends the agent
    /// threads away. What is left in the VM's process is for cure(), which needs privileges. Errors:
    /// outOfMemory and what it takes; processGone; the VM then stays managed, without a limit.
    Result<void> detach();

    [[nodiscard]] Status status() const;
    /// In `pieces` equal pieces (1 to HeatMap::mostPieces), fewer where the VM has fewer pages.
    [[nodiscard]] HeatMap heat(std::size_t pieces) const;
    [[nodiscard]] const Footprint& footprint() const { return attachment_.footprint; }
    /// It is on disk, for whoever recovers or cures (markFinished()).
    void footprintRecorded() const { markFinished(attachment_); }

  private:
    VmMemory(Options options, Attachment attachment, AddressMap addresses, PageMap pages,
             EventJournal journal, std::unique_ptr<ColdStore> store, std::unique_ptr<FrozenTier> frozen,
             thermocline_lane* firstLane);
    [[nodiscard]] bool processEnded() const;
    [[nodiscard]] std::uint64_t populatedBytes() const;
    [[nodiscard]] Result<void> takeOver();
    void tellPolicy(PageNumber page, PageState before);
    [[nodiscard]] PolicyView policyView();
    [[nodiscard]] thermocline_policy_statistics policyStatistics() const;

    Options options_;
    Attachment attachment_;
    thermocline_lane* lanes_;
    Userfault guest_;
    Userfault drop_;
    ProcessMemory memory_;
    PageMap pages_;
    EventJournal journal_;
    std::unique_ptr<ColdStore> store_;
    std::unique_ptr<FrozenTier> frozen_;  // none where no directory was given, or
    std::string withoutTier_;             // why there is none
    std::array<AgentLane, laneCount> agents_;
    Pager pager_;
    Budget budget_;
    std::unique_ptr<PolicyHost> policy_;  // none: the built-in one alone
    std::unique_ptr<Reclaimer> reclaimer_;
    std::unique_ptr<FaultHandler> faults_;
    bool keepFiles_ = false;  // what is there must be there to be recovered (again)
    std::atomic<bool> detached_{false};
    std::atomic<bool> gone_{false};

    // stall_ratio: the share of the last whole second
    mutable std::mutex stallMutex_;
    mutable std::chrono::steady_clock::time_point stallSince_;
    mutable std::chrono::nanoseconds stallAtSince_{0};
    mutable double stallRatio_ = 0;
};

}  // namespace thermocline::memory
