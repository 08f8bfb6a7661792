// SPDX-License-Identifier: Apache-2.0
#include "daemon/daemon.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cctype>
#include <set>
#include <utility>

namespace thermocline {
namespace {

/// For libvirtd to answer a daemon that wants to end; systemd has more patience.
constexpr auto finishPatience = std::chrono::seconds(5);

}  // namespace

Result<std::string> normalizeUuid(const std::string& text) {
    std::string digits;
    for (const char c : text) {
        if (c == '-') continue;
        if (std::isxdigit(static_cast<unsigned char>(c)) == 0)
            return fail(ErrorCode::invalidArgument, fmt::format("\"{}\" is not a UUID", text));
        digits += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    constexpr std::size_t uuidDigits = 32;
    if (digits.size() != uuidDigits)
        return fail(ErrorCode::invalidArgument, fmt::format("\"{}\" is not a UUID", text));
    for (const std::size_t dash : {8U, 13U, 18U, 23U})
        digits.insert(dash, 1, '-');
    return digits;
}

Daemon::Daemon(Parts parts)
    : loop_(parts.loop),
      hypervisor_(parts.hypervisor),
      runtime_(parts.runtime),
      policies_(parts.database),
      history_(parts.database),
      recorder_(parts.loop, history_,
                [this] {
                    std::vector<HistoryRecorder::Figures> figures;
                    for (const auto& [uuid, entry] : entries_)
                        if (entry.domain->state() == Domain::State::attached)
                            figures.push_back({uuid, entry.domain->status()});
                    return figures;
                }),
      arbiter_(parts.loop, parts.database, parts.budget,
               {.vms = [this] { return attachedVms(); },
                .allot =
                    [this](const std::string& uuid, std::uint64_t bytes, const std::string& why) {
                        if (const auto found = entries_.find(uuid); found != entries_.end())
                            found->second.domain->setAllotment(bytes, why);
                    },
                .changed =
                    [this] {
                        if (observer_ != nullptr) observer_->budgetChanged();
                    }}),
      managers_(parts.loop, std::move(parts.managerExecutable), parts.managerTimeout,
                std::move(parts.fileTier), std::move(parts.policy), parts.mechanism),
      replacements_(parts.loop),
      configDirectory_(std::move(parts.configDirectory)),
      environment_{parts.loop,
                   managers_,
                   policies_,
                   parts.processes,
                   parts.runtime,
                   std::move(parts.probeGuest),
                   [this](Domain& domain) {
                       if (observer_ != nullptr) observer_->domainChanged(domain);
                       if (!entries_.at(domain.uuid()).known) removeForgotten();
                   },
                   parts.managerEndPatience,
                   [this](const std::string& uuid, std::optional<std::string> element,
                          std::function<void(Result<void>)> done) {
                       setOvercommit(uuid, std::move(element), std::move(done));
                   },
                   [this](const DomainInfo& info) { return rules_.match(info); }} {
    environment_.replacements = &replacements_;
    environment_.budgeted = [this] { return arbiter_.budget().on(); };
    environment_.suspend = [this](const std::string& uuid, std::function<void(Result<void>)> done) {
        hypervisor_.suspend(uuid, std::move(done));
    };
}

Daemon::~Daemon() = default;

void Daemon::start(Observer& observer) {
    observer_ = &observer;
    // VMs that are under limits are not to wait for somebody who repairs a file.
    (void)reloadConfiguration();
    for (const auto& record : runtime_.domains()) {
        const auto uuid = normalizeUuid(record.uuid);
        if (!uuid || *uuid != record.uuid) {
            spdlog::warn("{} is not ours; leaving it alone", runtime_.domainDirectory(record.uuid).string());
            continue;
        }
        std::string name = record.name;
        if (name.empty()) name = policies_.lastName(record.uuid).value_or(std::nullopt).value_or(record.uuid);
        domainOf(record.uuid, name).adopt(record);
    }
    recorder_.start();
    arbiter_.start();
    // Without it we hear of everything a little later.
    if (auto hook = HookSocket::open(loop_, runtime_.path() / HookMessage::socketName,
                                     [this](const HookMessage& message) { hookTold(message); }))
        hook_ = std::move(*hook);
    else
        spdlog::warn("{}; libvirt's hook is not heard", hook.error().message);
    hypervisor_.start(*this);
}

void Daemon::setOvercommit(const std::string& uuid, std::optional<std::string> element,
                           std::function<void(Result<void>)> done) {
    ++writes_;
    hypervisor_.setOvercommit(uuid, std::move(element), [this, done = std::move(done)](Result<void> result) {
        done(std::move(result));  // which writes at once what was said meanwhile
        if (--writes_ == 0 && finished_) loop_.post(std::exchange(finished_, nullptr));
    });
}

void Daemon::finish(EventLoop::Task finished) {
    if (writes_ == 0 || finishing_.active()) return finished();
    finished_ = std::move(finished);
    finishing_ = loop_.after(finishPatience, [this] {
        if (!finished_) return;
        spdlog::warn("libvirt does not answer; what was set last gets into the domains' metadata later");
        std::exchange(finished_, nullptr)();
    });
}

std::vector<HostArbiter::Vm> Daemon::attachedVms() const {
    std::vector<HostArbiter::Vm> vms;
    for (const auto& [uuid, entry] : entries_) {
        const auto& domain = *entry.domain;
        if (domain.state() == Domain::State::attached)
            vms.push_back({uuid, domain.priority(), domain.proactive().minResidentBytes, domain.ceiling(),
                           domain.allotment(), domain.status()});
    }
    return vms;
}

Result<void> Daemon::reloadConfiguration() {
    if (configDirectory_.empty()) return {};
    auto rules = DomainRules::load(configDirectory_);
    configurationNote_ = rules ? std::string() : rules.error().message;
    if (observer_ != nullptr) observer_->hypervisorChanged();
    if (!rules) {
        spdlog::error("{}; the former rules ({}) stay", rules.error().message, rules_.size());
        return tl::unexpected<Error>(rules.error());
    }
    rules_ = std::move(*rules);
    spdlog::info("{}: {} rule{} for new domains", configDirectory_.string(), rules_.size(),
                 rules_.size() == 1 ? "" : "s");
    for (const auto& [uuid, entry] : entries_)
        entry.domain->rulesChanged();
    return {};
}

// Asked by others.

std::vector<Domain*> Daemon::domains() const {
    std::vector<Domain*> all;
    for (const auto& [uuid, entry] : entries_)
        all.push_back(entry.domain.get());
    return all;
}

Result<void> Daemon::checkHypervisor() const {
    if (connected_) return {};
    return fail(ErrorCode::hypervisorUnavailable, detail_);
}

Error Daemon::unknown(const std::string& what) const {
    if (!connected_)
        return Error{ErrorCode::hypervisorUnavailable, fmt::format("{} is not known: {}", what, detail_)};
    return Error{ErrorCode::noSuchDomain,
                 fmt::format("libvirt knows no domain {}; virsh list --all shows those there are", what)};
}

Result<Domain*> Daemon::findByName(const std::string& name) const {
    for (const auto& [uuid, entry] : entries_)
        if (entry.domain->name() == name) return entry.domain.get();
    return tl::unexpected<Error>(unknown(fmt::format("\"{}\"", name)));
}

Result<Domain*> Daemon::findByUuid(const std::string& uuid) const {
    const auto normal = normalizeUuid(uuid);
    if (!normal) return tl::unexpected<Error>(normal.error());
    const auto found = entries_.find(*normal);
    if (found == entries_.end()) return tl::unexpected<Error>(unknown(*normal));
    return found->second.domain.get();
}

// Told by the hypervisor.

Domain& Daemon::domainOf(const std::string& uuid, const std::string& name) {
    if (const auto found = entries_.find(uuid); found != entries_.end()) return *found->second.domain;
    auto& domain = *entries_.emplace(uuid, Entry{std::make_unique<Domain>(environment_, uuid, name)})
                        .first->second.domain;
    spdlog::debug("domain {} ({}) is known", name, uuid);
    if (auto phase = hookPhases_.extract(name)) domain.hookTold(phase.mapped());
    if (observer_ != nullptr) observer_->domainAdded(domain);
    return domain;
}

void Daemon::hypervisorConnected(const std::vector<DomainInfo>& domains) {
    spdlog::info("connected to libvirt; it knows {} domain{}", domains.size(),
                 domains.size() == 1 ? "" : "s");
    connected_ = true;
    detail_.clear();
    if (observer_ != nullptr) observer_->hypervisorChanged();
    std::set<std::string> listed;
    for (const auto& info : domains) {
        listed.insert(info.uuid);
        domainChanged(info);
    }
    std::vector<std::string> gone;
    for (const auto& [uuid, entry] : entries_)
        if (!listed.contains(uuid)) gone.push_back(uuid);
    for (const auto& uuid : gone)
        domainRemoved(uuid);
}

void Daemon::hypervisorLost(const std::string& why) {
    if (connected_ || why != detail_) spdlog::warn("{}; attached domains stay attached", why);
    const bool changed = connected_ || why != detail_;
    connected_ = false;
    detail_ = why;
    if (changed && observer_ != nullptr) observer_->hypervisorChanged();
}

void Daemon::domainChanged(const DomainInfo& info) {
    auto& domain = domainOf(info.uuid, info.name);
    entries_.at(info.uuid).known = true;
    domain.update(info);
}

void Daemon::domainMetadataChanged(const DomainInfo& info) {
    auto& domain = domainOf(info.uuid, info.name);
    entries_.at(info.uuid).known = true;
    domain.metadataChanged(info);
}

void Daemon::domainRemoved(const std::string& uuid) {
    const auto found = entries_.find(uuid);
    if (found == entries_.end()) return;
    found->second.known = false;
    auto& domain = *found->second.domain;
    domain.update(DomainInfo{uuid, domain.name(), false, false, 0});
    removeForgotten();
}

void Daemon::domainRebooted(const std::string& uuid) {
    // The process, and with it everything of ours, stays; the guest simply touches its memory anew.
    if (const auto found = entries_.find(uuid); found != entries_.end())
        spdlog::info("domain {}: the guest rebooted", found->second.domain->name());
}

void Daemon::hookTold(const HookMessage& message) {
    spdlog::info("domain {}: libvirt's hook says {} {}", message.domain, message.operation,
                 message.subOperation);
    for (const auto& [uuid, entry] : entries_)
        if (entry.domain->name() == message.domain) return entry.domain->hookTold(message.operation);
    // Of a domain that is made now libvirt's event comes later. What never comes is not kept for ever.
    constexpr std::size_t mostKept = 1000;
    if (hookPhases_.size() >= mostKept) hookPhases_.clear();
    hookPhases_[message.domain] = message.operation;
}

void Daemon::removeForgotten() {
    if (removal_.active()) return;
    // From the loop: a domain's own code may be on the stack.
    removal_ = loop_.after(std::chrono::milliseconds(0), [this] {
        removal_.reset();
        for (auto entry = entries_.begin(); entry != entries_.end();) {
            if (entry->second.known || !entry->second.domain->idle()) {
                ++entry;
                continue;
            }
            if (observer_ != nullptr) observer_->domainRemoved(*entry->second.domain);
            entry = entries_.erase(entry);
        }
    });
}

}  // namespace thermocline
