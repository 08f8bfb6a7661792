// SPDX-License-Identifier: Apache-2.0
#include "daemon/domain.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "common/byte_size.h"
#include "daemon/arbiter.h"
#include "daemon/limit_range.h"

namespace thermocline {
namespace {

using namespace std::chrono_literals;

constexpr std::array<std::chrono::milliseconds, 3> attachRetries{1s, 5s, 30s};
// Looking at a large VM's mappings can take many milliseconds
// of the core loop, and the answer rarely changes.
constexpr auto supportAge = 10s;

}  // namespace

std::string_view stateName(Domain::State state) {
    switch (state) {
        case Domain::State::detached:
            return "detached";
        case Domain::State::attaching:
            return "attaching";
        case Domain::State::attached:
            return "attached";
        case Domain::State::detaching:
            return "detaching";
        case Domain::State::recovering:
            return "recovering";
        case Domain::State::failed:
            return "failed";
    }
    return "failed";
}

Domain::Domain(Environment& environment, std::string uuid, std::string name) : environment_(environment) {
    info_.uuid = std::move(uuid);
    info_.name = std::move(name);
    if (auto policy = environment_.policies.load(info_.uuid))
        policy_ = *policy;
    else
        spdlog::error("domain {}: its policy cannot be read: {}", info_.name, policy.error().message);
    // Where that cannot be told, rules had better not speak.
    known_ = environment_.policies.known(info_.uuid).value_or(true);
}

Domain::~Domain() = default;

// What others ask.

pid_t Domain::pid() const {
    if (vmPid_ != 0) return vmPid_;
    if (!info_.running) return 0;
    return environment_.processes.find(info_.uuid, info_.name).value_or(0);
}

std::uint64_t Domain::memoryBytes() const {
    return status_.memoryBytes != 0 ? status_.memoryBytes : info_.memoryBytes;
}

std::uint64_t Domain::limitBytes() const {
    return state_ == State::attached || state_ == State::detaching ? status_.limitBytes
                                                                   : inForce(policy_.limitBytes);
}

std::uint64_t Domain::ceiling() const {
    if (policy_.limitBytes == 0 || info_.hardLimitBytes == 0)
        return std::max(policy_.limitBytes, info_.hardLimitBytes);
    return std::min(policy_.limitBytes, info_.hardLimitBytes);
}

std::uint64_t Domain::inForce(std::uint64_t limit) const {
    if (allotment_ != 0) limit = limit == 0 ? allotment_ : std::min(limit, allotment_);
    if (limit == 0 || info_.hardLimitBytes == 0 || info_.hardLimitBytes >= limit) return limit;
    return std::max(info_.hardLimitBytes, lowestLimit(memoryBytes()));
}

std::string Domain::limitNote() const {
    const auto held = inForce(policy_.limitBytes);
    if (!status_.limitNote.empty() || held == policy_.limitBytes) return status_.limitNote;
    if (held == allotment_)
        return fmt::format("the host's budget leaves it {}: {}", formatByteSize(allotment_), allotmentNote_);
    return fmt::format(
        "libvirt's hard limit of {} (virsh memtune {}) is lower than the limit of {} that was set, and holds",
        formatByteSize(info_.hardLimitBytes), info_.name,
        formatByteSize(policy_.limitBytes != 0 ? policy_.limitBytes : allotment_));
}

void Domain::followHardLimit() {
    if (!hardLimitDue_ || state_ != State::attached || !info_.running || requests_ != 0 || taking_) return;
    hardLimitDue_ = false;
    if (inForce(policy_.limitBytes) == status_.limitBytes) return;
    applyLimit(policy_.limitBytes, [this](const Result<void>& applied) {
        if (applied) return;
        hardLimitDue_ = true;  // tried again with the next word of anybody
        spdlog::warn("domain {}: libvirt's hard limit, or the host's budget: {}", info_.name,
                     applied.error().message);
    });
}

db::ProactivePolicy Domain::proactive() const {
    if (state_ == State::attached || state_ == State::detaching)
        return {status_.proactiveMaxStall, status_.minResidentBytes};
    return policy_.proactive;
}

const memory::GuestSupport& Domain::support() const {
    const auto now = std::chrono::steady_clock::now();
    if (state_ != State::detached) {
        // A process that is attached already is no longer probed for it.
        support_ = memory::GuestSupport{true, status_.mechanism, status_.memoryBytes, "", ""};
        supportPid_ = -1;
        return support_;
    }
    const pid_t process = pid();
    if (process == supportPid_ && now - supportTime_ < supportAge) return support_;
    supportPid_ = process;
    supportTime_ = now;
    support_ = memory::GuestSupport{false, "none", 0, "", ""};
    if (process == 0) {
        support_.reason = info_.running ? "its QEMU process is not found" : "it is not running";
        support_.fix = info_.running ? "check that it is a QEMU domain of this host"
                                     : fmt::format("virsh start {}", info_.name);
        return support_;
    }
    if (auto found = environment_.probe(process))
        support_ = std::move(*found);
    else
        support_.reason = found.error().message;
    return support_;
}

// State.

void Domain::enter(State state, std::string note) {
    if (state_ != state)
        spdlog::info("domain {}: {}{}{}", info_.name, stateName(state), note.empty() ? "" : ": ", note);
    state_ = state;
    stateNote_ = std::move(note);
    if (replaced_ && state != State::recovering) environment_.loop.post(std::exchange(replaced_, nullptr));
    watchMappers();
    settle();
    environment_.changed(*this);
}

Result<void> Domain::save(const db::Policy& policy) {
    THERMOCLINE_TRY(environment_.policies.save(info_.uuid, info_.name, policy));
    policy_ = policy;
    known_ = true;
    return {};
}

void Domain::restore(const db::Policy& policy) {
    if (policy == policy_) return;
    if (auto saved = save(policy); !saved)
        spdlog::error("domain {}: its former policy cannot be put back: {}", info_.name,
                      saved.error().message);
}

void Domain::update(const DomainInfo& info) {
    const bool started = info.running && !info_.running;
    const bool changed = info != info_;
    // What did not suit the domain may suit it now.
    if (started || info.memoryBytes != info_.memoryBytes) followed_.reset();
    if (info.hardLimitBytes != info_.hardLimitBytes) hardLimitDue_ = true;
    if (info.activity == memory::Activity::paused && info_.activity != memory::Activity::paused)
        pausedSince_ = std::chrono::steady_clock::now();
    info_ = info;
    if (!info_.running) endedId_ = 0;
    if (vmId_ == 0 && vmPid_ != 0 && !vmEnded()) vmId_ = info_.id;
    if (started) {
        attempts_ = 0;
        hadElement_ = false;
        ruleDue_ = true;
    }
    if (!info_.running && state_ == State::detached) {
        retry_.reset();
        stateNote_.clear();
    }
    // An attached domain's end is told by its manager and
    // its process; libvirt's word alone would be too early.
    followMetadata();
    followRule();
    followHardLimit();
    followActivity();
    attachByPolicy();
    if (changed) environment_.changed(*this);
}

void Domain::hookTold(const std::string& operation) {
    hookPhase_ = operation;
    environment_.changed(*this);
    if (operation != "started" && operation != "reconnect") return;
    attempts_ = 0;
    retry_.reset();
    settle();
}

void Domain::attachByPolicy() {
    if (!policy_.managed || !info_.running || info_.migratingIn || state_ != State::detached ||
        retry_.active())
        return;
    // What has the same name or UUID now is somebody else's: where it was migrated to, for one.
    if (info_.id != 0 && info_.id == endedId_) return;
    if (attempts_ > attachRetries.size()) return;
    spdlog::info("domain {}: attaching, as its policy says", info_.name);
    attachNow([this](Result<void> attached) {
        if (attached) {
            attempts_ = 0;
            return;
        }
        const bool hopeless =
            attached.error().code == ErrorCode::notSupported || attempts_ >= attachRetries.size();
        spdlog::warn("domain {}: automatic attach: {}{}", info_.name, attached.error().message,
                     hopeless ? "; giving up until it starts again or is attached by hand" : "");
        stateNote_ = attached.error().message;
        environment_.changed(*this);
        if (hopeless) {
            attempts_ = attachRetries.size() + 1;
            return;
        }
        retry_ = environment_.loop.after(attachRetries.at(attempts_++), [this] {
            retry_.reset();
            attachByPolicy();
        });
    });
}

// Attach.

void Domain::attach(Done done) {
    switch (state_) {
        case State::attached:
            return done(
                fail(ErrorCode::alreadyAttached, fmt::format("domain {} is attached already", info_.name)));
        case State::attaching:
        case State::detaching:
        case State::recovering:
            return done(fail(ErrorCode::busy, fmt::format("domain {} is {}; try again when that is over",
                                                          info_.name, stateName(state_))));
        case State::failed:
            if (managerPidfd_.valid())
                return done(fail(ErrorCode::busy, fmt::format("domain {}: {}", info_.name, stateNote_)));
            recoveries_ = 0;
            pendingRecovery_ = asRequest(std::move(done));
            return recover("on request");
        case State::detached:
            break;
    }
    if (!info_.running)
        return done(fail(ErrorCode::domainNotRunning,
                         fmt::format("domain {} is not running; start it first (virsh start {})", info_.name,
                                     info_.name)));
    if (info_.migratingIn)
        return done(fail(ErrorCode::busy,
                         fmt::format("domain {} is still arriving; attach when that is over", info_.name)));
    const db::Policy before = policy_;
    db::Policy wanted = requested(before);
    wanted.managed = true;
    if (auto saved = save(wanted); !saved) return done(tl::unexpected<Error>(saved.error()));
    retry_.reset();
    attachNow([this, before, done = asRequest(std::move(done))](Result<void> attached) {
        if (!attached) restore(before);
        done(std::move(attached));
    });
}

void Domain::attachNow(Done done) {
    const auto pid = environment_.processes.find(info_.uuid, info_.name);
    if (!pid) return done(tl::unexpected<Error>(pid.error()));
    auto pidfd = openPidfd(*pid);
    if (!pidfd) return done(tl::unexpected<Error>(pidfd.error()));
    const auto startTime = environment_.processes.startTime(*pid);
    if (!startTime) return done(tl::unexpected<Error>(startTime.error()));
    const auto directory = environment_.runtime.createDomain({info_.uuid, info_.name, *pid, *startTime});
    if (!directory) return done(tl::unexpected<Error>(directory.error()));

    vmPid_ = *pid;
    vmId_ = info_.id;
    watchVm(std::move(*pidfd));
    leaving_ = false;
    allotment_ = 0;
    allotmentNote_.clear();
    enter(State::attaching);
    environment_.managers.run(
        *pid, *directory, info_.name,
        [this, done = std::move(done)](tl::expected<manager::Status, AttachFailure> ready) {
            if (!ready) return attachRefused(ready.error(), done);
            status_ = std::move(*ready);
            if (auto opened = openClient(); !opened) {
                if (vmEnded())
                    clearUp();
                else
                    enter(State::failed, opened.error().message);
                return done(std::move(opened));
            }
            subscribe(done);
        });
}

void Domain::attachRefused(const AttachFailure& failure, const Done& done) {
    if (failure.clean || vmEnded()) {
        clearUp();
        return done(tl::unexpected<Error>(failure.error));
    }
    cure([this, error = failure.error, done](Result<void> cured) {
        if (!cured) spdlog::error("domain {}: {}", info_.name, cured.error().message);
        done(tl::unexpected<Error>(error));
    });
}

Result<void> Domain::openClient() {
    auto client = ManagerClient::connect(
        environment_.loop, environment_.runtime.domainDirectory(info_.uuid) / manager::socketFileName, *this);
    if (!client) return tl::unexpected<Error>(client.error());
    auto pidfd = openPidfd((*client)->managerPid());
    if (!pidfd) return tl::unexpected<Error>(pidfd.error());
    client_ = std::move(*client);
    tellingActivity_ = false;
    managerPidfd_ = std::move(*pidfd);
    managerSource_ =
        environment_.loop.watch(managerPidfd_.get(), EPOLLIN, [this](std::uint32_t) { onManagerEnded(); });
    return {};
}

void Domain::subscribe(Done done) {
    client_->subscribe([this, done = std::move(done)](Result<void> subscribed) {
        if (!subscribed) return noAnswer(subscribed.error(), done);
        applySavedLimit(done);
    });
}

// Whoever waits for "attached" shall find what was saved in force. Where it cannot be applied the attach
// itself succeeded all the same: RAM may have become smaller than the limit.

void Domain::applySavedLimit(const Done& done) {
    // What the last daemon had left to it holds until this one's arbiter has looked.
    if (allotment_ == 0 && environment_.budgeted && environment_.budgeted()) allotment_ = status_.limitBytes;
    // A manager that recovered does nothing by itself: without a limit, too, it has to be told to bring back
    // what is away.
    if (inForce(policy_.limitBytes) == status_.limitBytes && state_ != State::recovering)
        return applySavedProactive({}, done);
    applyLimit(policy_.limitBytes, [this, done](Result<void> applied) {
        if (!applied && applied.error().code == ErrorCode::processGone) return done(std::move(applied));
        applySavedProactive(applied
                                ? std::string()
                                : fmt::format("the saved limit is not applied: {}", applied.error().message),
                            done);
    });
}

void Domain::applySavedProactive(const std::string& note, const Done& done) {
    const db::ProactivePolicy applied{status_.proactiveMaxStall, status_.minResidentBytes};
    if (policy_.proactive == applied) {
        enter(State::attached, note);
        return done({});
    }
    applyProactive(policy_.proactive, [this, note, done](Result<void> set) {
        if (!set && set.error().code == ErrorCode::processGone) return done(std::move(set));
        enter(State::attached, set ? note
                                   : fmt::format("{}{}the saved proactive policy is not applied: {}", note,
                                                 note.empty() ? "" : "; ", set.error().message));
        done({});
    });
}

void Domain::noAnswer(const Error& error, const Done& done) {
    // Where the manager ended, onManagerEnded knows what to do about it.
    if (error.code != ErrorCode::processGone && (state_ == State::attaching || state_ == State::recovering))
        enter(State::failed, error.message);
    done(tl::unexpected<Error>(error));
}

// Limit.

Result<void> Domain::checkAttached() const {
    if (state_ == State::attached) return {};
    if (state_ == State::attaching || state_ == State::detaching || state_ == State::recovering)
        return fail(ErrorCode::busy, fmt::format("domain {} is {}; try again when that is over", info_.name,
                                                 stateName(state_)));
    if (state_ == State::failed)
        return fail(
            ErrorCode::notAttached,
            fmt::format("domain {}: its manager crashed; see thermoctl status {}", info_.name, info_.name));
    if (!info_.running)
        return fail(ErrorCode::domainNotRunning,
                    fmt::format("domain {} is not running; start it, then attach it: thermoctl attach {}",
                                info_.name, info_.name));
    return fail(ErrorCode::notAttached,
                fmt::format("domain {} is not attached; attach it first: thermoctl attach {}", info_.name,
                            info_.name));
}

Result<void> Domain::checkLimit(std::uint64_t bytes) const {
    if (bytes == 0)
        return fail(
            ErrorCode::invalidLimit,
            fmt::format("0 is no limit; to lift the limit of {} use ClearLimit (thermoctl limit {} none)",
                        info_.name, info_.name));
    const std::uint64_t ram = memoryBytes();
    const std::uint64_t floor = lowestLimit(ram);
    if (bytes < floor)
        return fail(ErrorCode::invalidLimit,
                    fmt::format("{} is below the floor of {}, which is {} (1/16 of its RAM, at least 16 MiB)",
                                formatByteSize(bytes), info_.name, formatByteSize(floor)));
    if (bytes > ram)
        return fail(
            ErrorCode::invalidLimit,
            fmt::format("{} is above the RAM of {}, which is {}; to lift the limit use ClearLimit (thermoctl "
                        "limit {} none)",
                        formatByteSize(bytes), info_.name, formatByteSize(ram), info_.name));
    return {};
}

void Domain::setLimit(std::uint64_t bytes, Done done) {
    if (bytes == 0) return done(checkLimit(bytes));
    if (auto attached = checkAttached(); !attached) return done(std::move(attached));
    if (auto valid = checkLimit(bytes); !valid) return done(std::move(valid));
    saveAndApplyLimit(bytes, std::move(done));
}

void Domain::clearLimit(Done done) {
    // A limit that is kept for the next start can be dropped at any time.
    if (state_ == State::detached && policy_.limitBytes != 0) {
        db::Policy wanted = requested(policy_);
        wanted.limitBytes = 0;
        auto saved = save(wanted);
        environment_.changed(*this);
        return asRequest(std::move(done))(std::move(saved));
    }
    if (auto attached = checkAttached(); !attached) return done(std::move(attached));
    saveAndApplyLimit(0, std::move(done));
}

void Domain::saveAndApplyLimit(std::uint64_t bytes, Done done) {
    db::Policy wanted = requested(policy_);
    const std::uint64_t before = std::exchange(wanted.limitBytes, bytes);
    if (auto saved = save(wanted); !saved) return done(std::move(saved));
    applyLimit(bytes, [this, bytes, before, done = asRequest(std::move(done))](Result<void> applied) {
        // Only what this request saved is put back: another one may have changed the rest meanwhile, or be
        // about to forget it all.
        if (!applied && state_ != State::detaching && policy_.limitBytes == bytes) {
            db::Policy former = policy_;
            former.limitBytes = before;
            restore(former);
        }
        done(std::move(applied));
    });
}

void Domain::applyLimit(std::uint64_t bytes, Done done) {
    bytes = inForce(bytes);
    client_->setLimit(bytes, [this, bytes, done = std::move(done)](Result<manager::Status> status) {
        if (!status) return done(tl::unexpected<Error>(status.error()));
        spdlog::info("domain {}: limit {}", info_.name, bytes == 0 ? "lifted" : formatByteSize(bytes));
        onStatus(*status);
        done({});
    });
}

// The domain's part of the host's budget.

void Domain::setPriority(std::uint32_t priority, Done done) {
    if (priority < lowestPriority || priority > highestPriority)
        return done(fail(ErrorCode::invalidArgument, fmt::format("{} is no priority; it is from {} to {}",
                                                                 priority, lowestPriority, highestPriority)));
    if (!policy_.managed)
        return done(fail(ErrorCode::notAttached,
                         fmt::format("domain {} is not attached; attach it first: thermoctl attach {}",
                                     info_.name, info_.name)));
    db::Policy wanted = requested(policy_);
    wanted.priority = priority;
    auto saved = save(wanted);
    environment_.changed(*this);
    asRequest(std::move(done))(std::move(saved));
}

void Domain::setAllotment(std::uint64_t bytes, std::string why) {
    if (state_ != State::attached) return;
    allotmentNote_ = std::move(why);
    if (bytes != allotment_) {
        allotment_ = bytes;
        hardLimitDue_ = true;
        followHardLimit();
    }
    environment_.changed(*this);
}

// The proactive policy, and where memory is hot.

void Domain::setProactive(double maxStall, std::uint64_t minResidentBytes, Done done) {
    const bool off = maxStall == 0;
    const auto wanted = off ? db::ProactivePolicy{} : db::ProactivePolicy{maxStall, minResidentBytes};
    // Likewise: what is kept for the next start can be dropped at any time.
    if (off && state_ == State::detached && policy_.proactive != wanted) {
        db::Policy without = requested(policy_);
        without.proactive = wanted;
        auto saved = save(without);
        environment_.changed(*this);
        return asRequest(std::move(done))(std::move(saved));
    }
    if (auto attached = checkAttached(); !attached) return done(std::move(attached));
    // Neither JSON nor SQLite has these, so the manager cannot be asked.
    if (!std::isfinite(maxStall))
        return done(fail(ErrorCode::invalidArgument,
                         fmt::format("a stall of {} is no share of time; 0 turns it off", maxStall)));
    saveAndApplyProactive(wanted, std::move(done));
}

void Domain::saveAndApplyProactive(const db::ProactivePolicy& proactive, Done done) {
    db::Policy wanted = requested(policy_);
    const auto before = std::exchange(wanted.proactive, proactive);
    if (auto saved = save(wanted); !saved) return done(std::move(saved));
    applyProactive(proactive,
                   [this, proactive, before, done = asRequest(std::move(done))](Result<void> applied) {
                       if (!applied && state_ != State::detaching && policy_.proactive == proactive) {
                           db::Policy former = policy_;
                           former.proactive = before;
                           restore(former);
                       }
                       done(std::move(applied));
                   });
}

void Domain::applyProactive(const db::ProactivePolicy& proactive, Done done) {
    client_->setProactive(
        proactive.maxStall, proactive.minResidentBytes,
        [this, proactive, done = std::move(done)](Result<manager::Status> status) {
            if (!status) return done(tl::unexpected<Error>(status.error()));
            spdlog::info("domain {}: proactive {}", info_.name,
                         proactive.maxStall == 0
                             ? "off"
                             : fmt::format("at a stall of up to {}, at least {} resident", proactive.maxStall,
                                           formatByteSize(proactive.minResidentBytes)));
            onStatus(*status);
            done({});
        });
}

void Domain::closeFileTier(Done done) {
    if (auto attached = checkAttached(); !attached) return done(std::move(attached));
    client_->closeFileTier([this, done = std::move(done)](Result<manager::Status> status) {
        if (!status) return done(tl::unexpected<Error>(status.error()));
        spdlog::info("domain {}: its file tier is being closed", info_.name);
        onStatus(*status);
        done({});
    });
}

void Domain::heat(std::uint32_t pieces, ManagerClient::HeatReply done) {
    if (auto attached = checkAttached(); !attached)
        return done(tl::unexpected<Error>(std::move(attached).error()));
    client_->heat(pieces, std::move(done));
}

void Domain::onStatus(const manager::Status& status) {
    status_ = status;
    followLoss();
    environment_.changed(*this);
}

}  // namespace thermocline
