// SPDX-License-Identifier: Apache-2.0
#include "memory/policy_session.h"

#include <cxxabi.h>
#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace thermocline::memory {

PolicySession::PolicySession(PolicySettings settings, PolicyView view)
    : settings_(std::move(settings)),
      requests_(view.pages.blocks()),
      view_(std::move(view)),
      name_(std::filesystem::path(settings_.file).stem()) {}

void PolicySession::run() {
    // Also where the policy ends its thread, which unwinds through here.
    struct End {
        PolicySession& session;
        ~End() {
            session.inCharge_ = false;
            const std::lock_guard lock(session.mutex_);
            session.ended_ = true;
            session.changed_.notify_all();
        }
    } const end{*this};
    ::pthread_setname_np(::pthread_self(), "policy");
    thread_ = ::gettid();
    if (!begin()) return;
    const auto stopped = [&] {
        const std::lock_guard lock(mutex_);
        return stop_;
    };
    while (!stopped()) {
        thermocline_policy_statistics now{};
        if (takeLimitChange() && functions_.limit_changed != nullptr &&
            policyServices.statistics(this, &now, sizeof now) == THERMOCLINE_OK &&
            !call("limit_changed",
                  [&] { return functions_.limit_changed(self_, now.limit_bytes, now.proactive_stall); }))
            return;
        if (!deliverEvents(faults_) || !deliverEvents(requests_.events()) || !tick()) return;
        wait();
    }
    inCharge_ = false;
    if (functions_.destroy != nullptr)
        (void)call("destroy", [&] {
            functions_.destroy(self_);
            return 0;
        });
}

bool PolicySession::begin() {
    std::optional<Result<PolicyPlugin>> loaded;
    if (!call("load", [&] {
            loaded = PolicyPlugin::load(settings_.file, settings_.directory);
            return 0;
        }))
        return false;
    if (!*loaded) {
        switchOff((*loaded).error().message);
        return false;
    }
    functions_ = (*loaded)->functions();
    {
        const std::lock_guard lock(mutex_);
        name_ = (*loaded)->name();
    }
    std::vector<thermocline_policy_option> options;
    for (const auto& [key, value] : settings_.options)
        options.push_back({key.c_str(), value.c_str()});
    if (!call("create", [&] {
            return functions_.create(&policyServices, this, options.data(), options.size(), &self_);
        }))
        return false;
    spdlog::info("policy \"{}\" from {} is in charge", name(), settings_.file);
    inCharge_ = true;
    return !off();
}

/// False: it was switched off, by this call or before. What a thread's end throws is no object: GCC's
/// unwinder has none to give, and UBSan takes what is caught for a reference to null.
template <typename Do>
[[gnu::no_sanitize("null")]] bool PolicySession::call(const char* name, Do&& action) {
    if (off()) return false;
    function_ = name;
    ++calls_;
    std::string problem;
    try {
        if (const int result = action(); result != 0) problem = fmt::format("{}() returned {}", name, result);
    } catch (const abi::__forced_unwind&) {
        switchOff(fmt::format("{}() ended the thread that it was called on", name));
        throw;
    } catch (const std::exception& error) {
        problem = fmt::format("{}() threw an exception: {}", name, error.what());
    } catch (...) {
        problem = fmt::format("{}() threw an unknown exception", name);
    }
    if (!problem.empty()) {
        {
            const std::lock_guard lock(mutex_);
            if (lastLineCall_ == calls_) problem += fmt::format(" ({})", lastLine_);
        }
        switchOff(problem);
    }
    ++calls_;
    return !off();
}

bool PolicySession::deliverEvents(PolicyEvents& events) {
    // At most what is there at once: where they come faster than they are taken, timers are due all the same.
    for (std::size_t n = 0; n < PolicyEvents::capacity; ++n) {
        const auto event = events.pop();
        if (!event) break;
        if (!deliver(*event)) return false;
    }
    return !off();
}

bool PolicySession::deliver(PolicyEvent event) {
    switch (event.kind) {
        case PolicyEvent::Kind::absentFault:
            return deliverFault(event.number, THERMOCLINE_PAGE_ABSENT);
        case PolicyEvent::Kind::coldFault:
            return deliverFault(event.number, THERMOCLINE_PAGE_COLD);
        case PolicyEvent::Kind::frozenFault:
            return deliverFault(event.number, THERMOCLINE_PAGE_FROZEN);
        case PolicyEvent::Kind::touched:
            return functions_.touched == nullptr ||
                   call("touched", [&] { return functions_.touched(self_, event.number); });
        case PolicyEvent::Kind::goneCold:
            return functions_.gone_cold == nullptr ||
                   call("gone_cold", [&] { return functions_.gone_cold(self_, event.number); });
    }
    return true;
}

bool PolicySession::tick() {
    for (std::uint32_t number = 0; number < timers_.size(); ++number) {
        {
            const std::lock_guard gate(gate_);
            auto& timer = timers_[number];
            const auto now = Clock::now();
            if (timer.every == Clock::duration(0) || timer.due > now) continue;
            timer.due = std::max(timer.due + timer.every, now);  // what was missed is not made up for
        }
        if (functions_.tick != nullptr && !call("tick", [&] { return functions_.tick(self_, number); }))
            return false;
    }
    return !off();
}

bool PolicySession::deliverFault(PageNumber page, thermocline_page_state before) {
    return functions_.fault == nullptr ||
           call("fault", [&] { return functions_.fault(self_, page, before); });
}

void PolicySession::wait() {
    auto until = Clock::now() + eventDelay;
    {
        const std::lock_guard gate(gate_);
        for (const auto& timer : timers_)
            if (timer.every != Clock::duration(0)) until = std::min(until, timer.due);
    }
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, until, [&] { return stop_ || limitChanged_; });
}

bool PolicySession::takeLimitChange() {
    const std::lock_guard lock(mutex_);
    return std::exchange(limitChanged_, false);
}

void PolicySession::limitChanged() {
    const std::lock_guard lock(mutex_);
    limitChanged_ = true;
    changed_.notify_all();
}

void PolicySession::stop() {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
}

bool PolicySession::awaitEnd(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return ended_; });
}

void PolicySession::leave() {
    const std::lock_guard gate(gate_);
    inCharge_ = false;
    view_.reset();
}

void PolicySession::switchOff(const std::string& reason) {
    std::string note;
    {
        const std::lock_guard lock(mutex_);
        if (off_) return;
        inCharge_ = false;
        off_ = true;
        note = fmt::format("policy \"{}\" is switched off, the built-in one is in charge: {}", name_, reason);
        note_ = note;
    }
    requests_.clear();
    spdlog::error("{}", note);
}

std::string PolicySession::name() const {
    const std::lock_guard lock(mutex_);
    return name_;
}

std::string PolicySession::note() const {
    const std::lock_guard lock(mutex_);
    return note_;
}

}  // namespace thermocline::memory
