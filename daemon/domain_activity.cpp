// SPDX-License-Identifier: Apache-2.0

// What a Domain's VM is doing (memory/activity.h): the hypervisor says it, and the manager has to know. Word
// that comes late costs time, never a byte.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "daemon/domain.h"
#include "daemon/overcommit_xml.h"

namespace thermocline {

using memory::Activity;

Activity Domain::wantedActivity() const {
    if (info_.activity != Activity::paused) return info_.activity;
    // One that another daemon has taken for paused long enough stays so.
    const bool longEnough = std::chrono::steady_clock::now() - pausedSince_ >=
                                std::chrono::seconds(policy_.freezePausedSeconds) ||
                            status_.activity == activityName(Activity::paused);
    return policy_.freezePausedSeconds != 0 && longEnough ? Activity::paused : Activity::running;
}

void Domain::followActivity() {
    pausedLong_.reset();
    if (state_ != State::attached || !client_ || status_.activity.empty() || tellingActivity_) return;
    const auto wanted = wantedActivity();
    if (wanted == Activity::running && info_.activity == Activity::paused &&
        policy_.freezePausedSeconds != 0) {
        const auto now = std::chrono::steady_clock::now();
        const auto due = pausedSince_ + std::chrono::seconds(policy_.freezePausedSeconds);
        pausedLong_ = environment_.loop.after(std::chrono::ceil<std::chrono::milliseconds>(due - now),
                                              [this] { followActivity(); });
    }
    if (status_.activity == activityName(wanted)) return;
    tellingActivity_ = true;
    client_->setActivity(wanted, [this, wanted](Result<manager::Status> status) {
        tellingActivity_ = false;
        if (!status)
            return spdlog::warn("domain {}: its manager was told that it is {}: {}", info_.name,
                                activityName(wanted), status.error().message);
        spdlog::info("domain {}: {}", info_.name,
                     wanted == Activity::running     ? "it runs"
                     : wanted == Activity::copiedOut ? "all of its memory is being read; nothing is taken"
                                                     : "it is paused; all of its memory goes");
        onStatus(*status);
        followActivity();
    });
}

void Domain::setFreezePaused(std::uint32_t seconds, Done done) {
    if (std::chrono::seconds(seconds) > longestFreezePaused)
        return done(
            fail(ErrorCode::invalidArgument, fmt::format("{} s is too long; it is {} s at most, 0 = never",
                                                         seconds, longestFreezePaused.count())));
    if (!policy_.managed)
        return done(fail(ErrorCode::notAttached,
                         fmt::format("domain {} is not attached; attach it first: thermoctl attach {}",
                                     info_.name, info_.name)));
    db::Policy wanted = requested(policy_);
    wanted.freezePausedSeconds = seconds;
    auto saved = save(wanted);
    environment_.changed(*this);
    followActivity();
    asRequest(std::move(done))(std::move(saved));
}

}  // namespace thermocline
