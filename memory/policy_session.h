// SPDX-License-Identifier: Apache-2.0
#pragma once

// One policy at work: everything that its thread, and threads of its own making, can touch. Shared, so that a
// thread that never comes back keeps it alive: it finds a session that is switched off. run() is the policy's
// thread; services (policy_services.cpp) may come from any thread of the policy; the rest is for any thread.

#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "memory/page_map.h"
#include "memory/policy_events.h"
#include "memory/policy_plugin.h"
#include "memory/policy_requests.h"

struct thermocline_policy_context {};

namespace thermocline::memory {

struct PolicySettings {
    std::string file;  ///< empty: the built-in policy alone
    std::string directory = defaultPolicyDirectory;
    std::vector<std::pair<std::string, std::string>> options;
    std::chrono::milliseconds patience = std::chrono::seconds(2);  ///< how long a call of the policy may take
};

/// What a policy may see of the engine. Called on the policy's threads, but not after leave().
struct PolicyView {
    const PageMap& pages;
    std::function<bool()> managed;  ///< does `pages` say anything?
    std::function<bool(PageNumber, std::size_t offset, std::span<std::byte> into)>
        read;  ///< false: not in guest RAM
    std::function<thermocline_policy_statistics()> statistics;
    std::function<void()> wantsBack;  ///< there is something to bring back
};

class PolicySession : public thermocline_policy_context {
  public:
    PolicySession(PolicySettings settings, PolicyView view);

    /// Loads the policy and serves it until stop() or until it is switched off.
    void run();

    // -- the engine's side --
    void push(PolicyEvent event) { faults_.push(event); }  ///< the fault thread's
    void limitChanged();
    /// run() is to end.
    void stop();
    /// False: run() has not ended after so long.
    bool awaitEnd(std::chrono::milliseconds patience);
    /// From here on the engine is not touched, whoever asks. Waits for a service that is under way.
    void leave();
    /// For good; the first reason counts.
    void switchOff(const std::string& reason);

    [[nodiscard]] PolicyRequests& requests() { return requests_; }
    [[nodiscard]] bool inCharge() const { return inCharge_.load(std::memory_order_acquire); }
    [[nodiscard]] bool off() const { return off_.load(std::memory_order_relaxed); }
    [[nodiscard]] const PolicySettings& settings() const { return settings_; }
    [[nodiscard]] std::string name() const;
    [[nodiscard]] std::string note() const;
    /// Calls of the policy that have begun and ended, together: odd while one is under way.
    [[nodiscard]] std::uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }
    /// The function that was called last.
    [[nodiscard]] const char* function() const { return function_.load(std::memory_order_relaxed); }
    [[nodiscard]] pid_t thread() const { return thread_.load(std::memory_order_relaxed); }

  private:
    friend struct PolicyServices;
    using Clock = std::chrono::steady_clock;
    struct Timer {
        Clock::duration every{0};
        Clock::time_point due;
    };
    static constexpr auto eventDelay = std::chrono::milliseconds(20);
    static constexpr unsigned mostInvalid = 32;
    static constexpr unsigned mostLines = 60;  // of log, a minute
    static constexpr std::size_t longestLine = 200;

    bool begin();
    bool deliverEvents(PolicyEvents& events);
    bool deliver(PolicyEvent event);
    bool deliverFault(PageNumber page, thermocline_page_state before);
    bool tick();
    void wait();
    bool takeLimitChange();
    template <typename Do>
    bool call(const char* name, Do&& action);
    int invalid(const std::string& what);

    const PolicySettings settings_;
    PolicyRequests requests_;
    PolicyEvents faults_;
    thermocline_policy functions_{};  // the policy's thread's
    void* self_ = nullptr;            // ... of the policy

    std::mutex gate_;  // held by every service; guards the members below
    std::optional<PolicyView> view_;
    std::array<Timer, THERMOCLINE_POLICY_TIMERS> timers_;
    unsigned invalid_ = 0;
    unsigned lines_ = 0;
    Clock::time_point linesSince_{};

    mutable std::mutex mutex_;  // guards the members below and the condition
    std::condition_variable changed_;
    std::string name_;
    std::string note_;
    std::string lastLine_;
    std::uint64_t lastLineCall_ = 0;  // calls() when it was logged
    bool limitChanged_ = true;
    bool stop_ = false;
    bool ended_ = false;

    std::atomic<bool> inCharge_{false};
    std::atomic<bool> off_{false};
    std::atomic<std::uint64_t> calls_{0};
    std::atomic<const char*> function_{""};
    std::atomic<pid_t> thread_{0};
};

/// The table that a policy is given.
extern const thermocline_policy_services policyServices;

}  // namespace thermocline::memory
