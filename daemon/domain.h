// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/error.h"
#include "daemon/domain_environment.h"
#include "daemon/event_loop.h"
#include "daemon/hypervisor.h"
#include "daemon/manager_client.h"

namespace thermocline {

/// One libvirt domain: its policy, and the life of its manager.
///
///     state     | event                 | next      | what is done
///     detached  | attach, or by policy  | attaching | state directory, start `run`
///     attaching | ready                 | attached  | connect, subscribe, apply the limit
///     attaching | refused               | detached  | directory removed
///     attaching | manager died          | as cured  | `cure`: detached, or failed
///     attached  | detach                | detaching | `detach`, the manager's end, `cure`
///     detaching | error                 | attached  | policy and limit as before
///     detaching | cured                 | detached  | directory removed
///     any       | the VM's process ends | detached  | once the manager ended too: directory removed
///     any       | manager ends, VM not  | recovering| start `run --recover`
///     recovering| ready                 | attached  | connect, subscribe, apply limit and policy again
///     recovering| the detach was over   | as cured  | `cure`: detached, or failed
///     recovering| manager died          | recovering| again, ever later
///     recovering| refused, or too often | failed    | files kept: the VM's faults wait for them
///     failed    | attach                | recovering| `run --recover`
///     failed    | detach                | as cured  | `cure`: detached, or failed
///
/// What a request must remember is saved before it is done, and put back where it fails.
/// Belongs to the loop's thread. REQUIRES: idle() when destroyed, or the loop runs no more.
class Domain : private ManagerClient::Listener {
  public:
    enum class State { detached, attaching, attached, detaching, recovering, failed };
    using Done = std::function<void(Result<void>)>;

    using Environment = DomainEnvironment;

    Domain(Environment& environment, std::string uuid, std::string name);
    ~Domain() override;
    Domain(const Domain&) = delete;
    Domain& operator=(const Domain&) = delete;

    /// The hypervisor's word. May attach by itself, and takes what the domain's metadata asks for
    /// (docs/virsh.md says when).
    void update(const DomainInfo& info);
    /// Likewise; somebody set or removed the domain's <overcommit> element just now: the last word on its
    /// settings.
    void metadataChanged(const DomainInfo& info);
    /// What libvirt's hook said of the domain. Noted, and a reason to try again at once where an attach has
    /// failed since the domain started. A domain that libvirt has not told of as running is not touched.
    void hookTold(const std::string& operation);
    /// The rules for new domains have changed: looks at them again where nothing else was said of the domain.
    /// Attached domains stay attached.
    void rulesChanged();
    /// A state directory was found at start: connects to the manager, or clears up after it.
    void adopt(const DomainRecord& record);

    /// Requests; errors as on D-Bus (dbus/org.thermocline1.Domain.xml).
    /// `done` comes from the loop or at once.
    void attach(Done done);
    void detach(Done done);
    /// 0 is an error: see clearLimit.
    void setLimit(std::uint64_t bytes, Done done);
    void clearLimit(Done done);
    /// maxStall 0 turns it off and forgets both. The manager is the judge of what is in range.
    void setProactive(double maxStall, std::uint64_t minResidentBytes, Done done);
    /// lowestPriority to highestPriority (arbiter.h), of a domain that is managed.
    void setPriority(std::uint32_t priority, Done done);
    /// 0 = never; longestFreezePaused (overcommit_xml.h) at most. Of a domain that is managed.
    void setFreezePaused(std::uint32_t seconds, Done done);
    /// What the host's budget leaves to the attached VM, and why; 0: it is not bound. Not remembered.
    void setAllotment(std::uint64_t bytes, std::string why);
    /// Done when it has begun; status().fileTier tells the rest.
    void closeFileTier(Done done);
    void heat(std::uint32_t pieces, ManagerClient::HeatReply done);

    [[nodiscard]] const std::string& uuid() const { return info_.uuid; }
    [[nodiscard]] const std::string& name() const { return info_.name; }
    [[nodiscard]] bool running() const { return info_.running; }
    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] const std::string& stateNote() const { return lossNote_.empty() ? stateNote_ : lossNote_; }
    [[nodiscard]] bool managed() const { return policy_.managed; }
    /// Why what its metadata asks for is not in force, or not written there; else empty.
    [[nodiscard]] const std::string& settingsNote() const { return settingsNote_; }
    /// What libvirt's hook said last: "prepare", "started", ...; empty: nothing.
    [[nodiscard]] const std::string& hookPhase() const { return hookPhase_; }
    /// The VM's process, 0 where not running or not found.
    [[nodiscard]] pid_t pid() const;
    [[nodiscard]] std::uint64_t memoryBytes() const;
    /// The limit in force, or the one that the next automatic attach applies: no more than libvirt's hard
    /// limit.
    [[nodiscard]] std::uint64_t limitBytes() const;
    /// Why the limit is not met, or not the one that was asked for; else empty.
    [[nodiscard]] std::string limitNote() const;
    /// As limitBytes().
    [[nodiscard]] db::ProactivePolicy proactive() const;
    /// memory::activityName(), as its manager was told; empty while there is none, or one that cannot be
    /// told.
    [[nodiscard]] const std::string& activity() const { return status_.activity; }
    [[nodiscard]] std::uint32_t freezePausedSeconds() const { return policy_.freezePausedSeconds; }
    [[nodiscard]] std::uint32_t priority() const { return policy_.priority; }
    [[nodiscard]] std::uint64_t allotment() const { return allotment_; }
    [[nodiscard]] const std::string& allotmentNote() const { return allotmentNote_; }
    /// What it may take at most, whatever the host's budget: its own limit or libvirt's; 0: neither is set.
    [[nodiscard]] std::uint64_t ceiling() const;
    /// The manager's last figures; all zero while there is no manager.
    [[nodiscard]] const manager::Status& status() const { return status_; }
    /// Looks at the VM's process, at most once in ten seconds.
    [[nodiscard]] const memory::GuestSupport& support() const;
    /// Nothing of ours is left in the VM or under way.
    [[nodiscard]] bool idle() const { return state_ == State::detached; }

  private:
    void onStatus(const manager::Status& status) override;
    void onGone() override;
    void onClosed() override;

    void enter(State state, std::string note = {});
    void attachNow(Done done);
    void attachByPolicy();
    void attachRefused(const AttachFailure& failure, const Done& done);
    Result<void> openClient();
    void subscribe(Done done);
    void noAnswer(const Error& error, const Done& done);
    void applyLimit(std::uint64_t bytes, Done done);
    void applyProactive(const db::ProactivePolicy& proactive, Done done);
    /// What is saved, after an attach. What cannot be applied is told in the state's note.
    void applySavedLimit(const Done& done);
    void applySavedProactive(const std::string& note, const Done& done);
    void saveAndApplyLimit(std::uint64_t bytes, Done done);
    void saveAndApplyProactive(const db::ProactivePolicy& proactive, Done done);
    void detachTo(const db::Policy& policy, Done done);
    [[nodiscard]] Result<void> checkAttached() const;
    /// `limit`, or the domain's <hard_limit> (virsh memtune) or its part of the host's budget where they are
    /// lower; where there is no limit, only that part makes one.
    [[nodiscard]] std::uint64_t inForce(std::uint64_t limit) const;
    void followHardLimit();
    [[nodiscard]] Result<void> checkLimit(std::uint64_t bytes) const;
    Result<void> save(const db::Policy& policy);
    void restore(const db::Policy& policy);

    // domain_metadata.cpp: the settings in the domain's metadata.
    /// `done`, and then metadata has its turn: what a request asks for comes before it, and is written into
    /// it.
    Done asRequest(Done done);
    /// `policy` as a request leaves it: to be written into the metadata, where there is any.
    [[nodiscard]] db::Policy requested(db::Policy policy) const;
    void followMetadata();
    /// followMetadata(), from the loop.
    void settle();
    void followRule();
    void takeSettings(const db::Policy& wanted, const Done& done);
    void applySettings(const db::Policy& wanted, const Done& done);
    void forgetSettings();
    void writeMetadata();
    void noteSettings(std::string note);
    void dropMetadataDue();

    // domain_activity.cpp: what the VM does, as far as its manager has to know.
    void followActivity();
    [[nodiscard]] memory::Activity wantedActivity() const;

    // domain_upgrade.cpp: the installed manager is another one.
    void followInstalled();
    void replaceManager(std::function<void()> over);

    // domain_shared.cpp: guest RAM that another process could get.
    void watchMappers();
    void lookForOtherMappers();

    // domain_loss.cpp: memory of the VM that cannot be had.
    void followLoss();

    void watchVm(UniqueFd pidfd);
    void onVmEnded();
    void onManagerEnded();
    void expectManagerEnd();
    /// Has another manager go on where one died; `why` for people.
    void recover(std::string why);
    void startRecovery();
    void onRecovered(tl::expected<manager::Status, AttachFailure> ready);
    /// Takes what the manager left out of the VM's process; on success the domain is detached.
    void cure(Done done);
    void clearUp();
    [[nodiscard]] bool vmEnded() const;

    Environment& environment_;
    DomainInfo info_;
    db::Policy policy_;
    State state_ = State::detached;
    std::string stateNote_;
    manager::Status status_;

    pid_t vmPid_ = 0;
    int vmId_ = 0;     ///< DomainInfo::id of that process
    int endedId_ = 0;  ///< likewise of one that has ended, until the hypervisor says so, too
    UniqueFd vmPidfd_;
    EventLoop::Source vmSource_;
    std::unique_ptr<ManagerClient> client_;
    UniqueFd managerPidfd_;
    EventLoop::Source managerSource_;
    EventLoop::Source patience_;      ///< runs out when a manager that should end does not
    bool leaving_ = false;            ///< the manager answered `detach`: its end is no crash
    bool leavingToAnother_ = false;   ///< likewise, of one that has handed over
    std::function<void()> replaced_;  ///< whose turn it is to replace managers; called once it is over
    Done pendingDetach_;
    std::size_t recoveries_ = 0;  ///< since a manager lived for a while
    std::chrono::steady_clock::time_point recoveredAt_{};
    EventLoop::Source recovery_;    ///< runs out when the next is due
    Done pendingRecovery_;          ///< who asked for one
    bool recovering_ = false;       ///< a manager was started and has not answered
    EventLoop::Source mapperLook_;  ///< while guest RAM is shared and attached

    std::string lossNote_;  ///< memory of the VM cannot be had, and what was done about it
    std::chrono::steady_clock::time_point pausedSince_{};  ///< while info_ says that it is paused
    EventLoop::Source pausedLong_;                         ///< runs out when that is long enough
    bool tellingActivity_ = false;                         ///< the manager has not answered

    std::string hookPhase_;
    std::string settingsNote_;
    int requests_ = 0;                     ///< under way
    bool writing_ = false;                 ///< metadata
    bool taking_ = false;                  ///< what metadata asks for is being applied
    std::optional<db::Policy> written_;    ///< what metadata was made to say last
    bool removed_ = false;                 ///< the element was taken away, and that has to be followed
    bool hadElement_ = false;              ///< the metadata had our element when it was last looked at
    std::optional<std::string> followed_;  ///< the element that was dealt with last, well or not
    bool known_ = false;                   ///< somebody has said something of the domain, or a rule has
    bool hardLimitDue_ = false;            ///< libvirt's hard limit has changed
    bool ruleDue_ = false;                 ///< the rules have to be looked at
    EventLoop::Source settling_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  ///< for answers of the hypervisor

    std::uint64_t allotment_ = 0;
    std::string allotmentNote_;

    EventLoop::Source retry_;
    std::size_t attempts_ = 0;  ///< failed automatic attaches since the VM started

    mutable memory::GuestSupport support_;
    mutable std::chrono::steady_clock::time_point supportTime_{};
    mutable pid_t supportPid_ = -1;
};

/// "detached", "attaching", ... as on D-Bus.
std::string_view stateName(Domain::State state);

}  // namespace thermocline
