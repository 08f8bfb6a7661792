// SPDX-License-Identifier: Apache-2.0
#include "memory/policy_host.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/resource.h>

#include <utility>

namespace thermocline::memory {
namespace {

/// Looks at the policy so many times in the time that a call may take. Looks are counted, not the clock:
/// where the whole process stands still, the policy is not to blame.
constexpr int looksPerPatience = 20;
constexpr int leastNice = 19;

}  // namespace

PolicyHost::PolicyHost(PolicySettings settings, PolicyView view)
    : session_(std::make_shared<PolicySession>(std::move(settings), std::move(view))) {}

PolicyHost::~PolicyHost() {
    stop();
}

void PolicyHost::start() {
    policy_ = std::thread([session = session_] { session->run(); });
    watch_ = std::thread([this] { watch(); });
}

void PolicyHost::stop() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    if (watch_.joinable()) watch_.join();
    session_->stop();
    const bool ended = !policy_.joinable() || session_->awaitEnd(session_->settings().patience);
    if (!ended) abandon("when the VM was left");
    session_->leave();
    if (policy_.joinable()) policy_.join();
}

void PolicyHost::watch() {
    ::pthread_setname_np(::pthread_self(), "policy-watch");
    const auto pause = session_->settings().patience / looksPerPatience;
    std::uint64_t call = 0;
    int looks = 0;
    for (std::unique_lock lock(mutex_); !wake_.wait_for(lock, pause, [&] { return stop_; });) {
        const auto now = session_->calls();
        looks = now == call && now % 2 == 1 ? looks + 1 : 0;
        call = now;
        if (looks < looksPerPatience) continue;
        return abandon(fmt::format("after {} ms", session_->settings().patience.count()));
    }
}

/// Its thread cannot be ended, since nobody knows what it holds. Should it spin rather than sleep, it gets no
/// more than what nobody else wants.
void PolicyHost::abandon(const std::string& when) {
    (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(session_->thread()), leastNice);
    session_->switchOff(fmt::format("{}() has not returned {}", session_->function(), when));
    policy_.detach();
}

}  // namespace thermocline::memory
