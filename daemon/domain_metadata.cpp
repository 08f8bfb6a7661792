// SPDX-License-Identifier: Apache-2.0
// The third part of Domain: the settings in the domain's own XML metadata (docs/virsh.md).
//
// Whoever spoke last is right. What is not written there yet (Policy::metadataDue, which is on disk) is
// younger than what is read there, so it is written first; somebody's change after that is younger again, and
// said by its own event. What we wrote comes back as an event too, and changes nothing, since what it asks
// for is in force.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "daemon/domain.h"
#include "daemon/overcommit_xml.h"

namespace thermocline {
namespace {

bool sameSettings(const db::Policy& a, const db::Policy& b) {
    return a.managed == b.managed && a.limitBytes == b.limitBytes && a.proactive == b.proactive &&
           a.priority == b.priority && a.freezePausedSeconds == b.freezePausedSeconds;
}

bool says(const std::optional<std::string>& element, const db::Policy& policy) {
    if (!element) return !policy.managed;
    const auto parsed = parseOvercommit(*element);
    return parsed && sameSettings(*parsed, policy);
}

/// The error is about the moment, not about what was asked for.
bool passes(const Error& error) {
    return error.code == ErrorCode::processGone || error.code == ErrorCode::busy ||
           error.code == ErrorCode::notAttached;
}

}  // namespace

Domain::Done Domain::asRequest(Done done) {
    ++requests_;
    return [this, done = std::move(done)](Result<void> result) {
        --requests_;
        // Before the answer: who got it may end the daemon at once.
        if (policy_.metadataDue && requests_ == 0 && !writing_ && !taking_) writeMetadata();
        settle();
        done(std::move(result));
    };
}

db::Policy Domain::requested(db::Policy policy) const {
    policy.metadataDue = static_cast<bool>(environment_.setOvercommit);
    policy.byRule = false;
    return policy;
}

void Domain::settle() {
    settling_ = environment_.loop.after(std::chrono::milliseconds(0), [this] {
        settling_.reset();
        followMetadata();
        followRule();
        followHardLimit();
        followActivity();
        attachByPolicy();
    });
}

void Domain::noteSettings(std::string note) {
    if (note == settingsNote_) return;
    if (!note.empty()) spdlog::error("domain {}: {}", info_.name, note);
    settingsNote_ = std::move(note);
    environment_.changed(*this);
}

void Domain::dropMetadataDue() {
    db::Policy policy = policy_;
    policy.metadataDue = false;
    if (auto saved = save(policy); !saved) spdlog::error("domain {}: {}", info_.name, saved.error().message);
}

void Domain::metadataChanged(const DomainInfo& info) {
    // While a request or a write is under way, that is the last word. And while a write is still due, the
    // event of the last one may come in late.
    const bool echo = policy_.metadataDue && written_ && says(info.overcommit, *written_);
    if (requests_ == 0 && !writing_ && !echo) {
        if (policy_.metadataDue) dropMetadataDue();
        removed_ = !info.overcommit && hadElement_ && policy_.managed;
        followed_.reset();
    }
    update(info);
}

void Domain::followMetadata() {
    if (requests_ != 0 || writing_ || taking_) return;
    if (policy_.metadataDue) return writeMetadata();
    if (state_ == State::attaching || state_ == State::detaching) return;  // its end calls this again
    if (removed_) return forgetSettings();
    if (!info_.overcommit) {
        if (std::exchange(followed_, std::nullopt)) noteSettings({});
        return;
    }
    hadElement_ = true;
    if (info_.overcommit == followed_) return;
    // What runs there is about to end, or needs somebody to look after it.
    if (state_ == State::failed || (state_ == State::attached && !info_.running)) return;
    followed_ = info_.overcommit;
    const auto refused = [this](const Error& error) {
        noteSettings(fmt::format(
            "the <overcommit> element of its metadata is not in force: {}; what was set before is",
            error.message));
    };
    const auto wanted = parseOvercommit(*info_.overcommit);
    if (!wanted) return refused(wanted.error());
    if (!sameSettings(*wanted, policy_))
        spdlog::info("domain {}: its metadata says {}", info_.name, formatOvercommit(*wanted));
    taking_ = true;
    takeSettings(*wanted, [this, refused](const Result<void>& taken) {
        taking_ = false;
        if (taken)
            noteSettings({});
        else if (passes(taken.error()))
            followed_.reset();
        else
            refused(taken.error());
        // There may have been another change meanwhile; a request's is written without a gap.
        if (policy_.metadataDue && requests_ == 0 && !writing_) return writeMetadata();
        if (info_.overcommit != followed_ || removed_) settle();
    });
}

void Domain::rulesChanged() {
    ruleDue_ = true;
    settle();
}

void Domain::followRule() {
    if (!ruleDue_ || !environment_.rule || requests_ != 0 || writing_ || taking_) return;
    if (info_.overcommit || (known_ && !policy_.byRule)) {
        ruleDue_ = false;
        return;
    }
    // Its start, or the end of what is under way, calls this again.
    if (!info_.running || (state_ != State::attached && state_ != State::detached)) return;
    ruleDue_ = false;
    const auto match = environment_.rule(info_);
    if (!match || !match->policy.managed) {
        if (!policy_.managed || state_ == State::attached) return;
        db::Policy none;
        none.byRule = true;
        if (auto saved = save(none); !saved)
            spdlog::error("domain {}: {}", info_.name, saved.error().message);
        return;
    }
    if (sameSettings(match->policy, policy_)) return;
    spdlog::info("domain {}: {} says {}", info_.name, match->where, formatOvercommit(match->policy));
    taking_ = true;
    takeSettings(match->policy, [this, where = match->where](const Result<void>& taken) {
        taking_ = false;
        noteSettings(taken || passes(taken.error())
                         ? std::string()
                         : fmt::format("the rule {} is not in force: {}", where, taken.error().message));
        settle();
    });
}

void Domain::takeSettings(const db::Policy& wanted, const Done& done) {
    if (sameSettings(wanted, policy_)) return done({});
    if (wanted.limitBytes != 0)
        if (auto valid = checkLimit(wanted.limitBytes); !valid) return done(std::move(valid));
    if (state_ == State::attached) return applySettings(wanted, done);
    if (auto saved = save(wanted); !saved) return done(std::move(saved));
    // A new word is a new reason to try.
    attempts_ = 0;
    retry_.reset();
    environment_.changed(*this);
    followActivity();
    done({});
}

void Domain::applySettings(const db::Policy& wanted, const Done& done) {
    const db::Policy before = policy_;
    if (auto saved = save(wanted); !saved) return done(std::move(saved));
    // What the manager may refuse comes first, so that there is nothing to take back.
    const auto limit = [this, wanted, before, done](Result<void> applied) {
        if (!applied) {
            if (!passes(applied.error())) restore(before);
            return done(std::move(applied));
        }
        followActivity();
        if (wanted.limitBytes == before.limitBytes) return done({});
        applyLimit(wanted.limitBytes, [this, before, done](Result<void> set) {
            if (set || passes(set.error())) return done(std::move(set));
            restore(before);
            applyProactive(before.proactive,
                           [done, set = std::move(set)](const Result<void>& /*back*/) { done(set); });
        });
    };
    if (wanted.proactive == before.proactive) return limit({});
    applyProactive(wanted.proactive, limit);
}

void Domain::forgetSettings() {
    removed_ = false;
    hadElement_ = false;
    followed_.reset();
    if (!policy_.managed) return noteSettings({});
    spdlog::info("domain {}: its <overcommit> element was removed: detaching", info_.name);
    detachTo({}, [this](const Result<void>& detached) {
        noteSettings(detached
                         ? std::string()
                         : fmt::format("its <overcommit> element was removed, but it cannot be detached: {}",
                                       detached.error().message));
    });
}

void Domain::writeMetadata() {
    writing_ = true;
    const db::Policy written = policy_;
    const auto element = written.managed ? std::optional(formatOvercommit(written)) : std::nullopt;
    environment_.setOvercommit(
        info_.uuid, element,
        [this, written, element, alive = std::weak_ptr<bool>(alive_)](const Result<void>& done) {
            if (alive.expired()) return;
            writing_ = false;
            const bool same = sameSettings(written, policy_);
            if (!done && done.error().code != ErrorCode::noSuchDomain) {
                // Tried again with the next word of the hypervisor, or the next request.
                if (done.error().code != ErrorCode::hypervisorUnavailable)
                    noteSettings(
                        fmt::format("its settings are not in its metadata: {}", done.error().message));
                if (!same && requests_ == 0 && !taking_) writeMetadata();
                return;
            }
            written_ = written;
            info_.overcommit = element;
            followed_ = element;
            hadElement_ = element.has_value();
            removed_ = false;
            noteSettings({});
            // Without a gap: what comes in now is told from what somebody says by whether a write is under
            // way.
            if (same)
                dropMetadataDue();
            else if (policy_.metadataDue && requests_ == 0 && !taking_)
                writeMetadata();
        });
}

}  // namespace thermocline
