// SPDX-License-Identifier: Apache-2.0
#pragma once

// Runs a third-party policy beside the engine, so that nothing it does can hold a guest up: it has a thread
// of its own, hears of events through bounded rings, and its requests are hints (policy_requests.h). A second
// thread, ours, watches it: a call that does not return switches it off and leaves its thread behind, with
// all that this thread could still touch. What it is not: a sandbox. The policy shares our address space; who
// installs one must be trusted (docs/writing-a-policy.md). Public members may be called from any thread.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "memory/policy_session.h"

namespace thermocline::memory {

class PolicyHost {
  public:
    PolicyHost(PolicySettings settings, PolicyView view);
    ~PolicyHost();
    PolicyHost(const PolicyHost&) = delete;
    PolicyHost& operator=(const PolicyHost&) = delete;

    /// Starts both threads, once; whether the policy could be loaded is in note(), soon.
    void start();
    /// Ends the policy, or leaves it behind where it does not end. What `view` shows is not touched any more;
    /// events may still be pushed.
    void stop();

    /// What the policy has asked for; nullptr: the built-in policy decides alone.
    [[nodiscard]] BlockChoice* choice() { return session_->inCharge() ? &session_->requests() : nullptr; }
    [[nodiscard]] bool inCharge() const { return session_->inCharge(); }
    /// The fault thread, or nobody: what happened to a page.
    void push(PolicyEvent event) {
        if (inCharge()) session_->push(event);
    }
    void limitChanged() { session_->limitChanged(); }
    /// Of the policy, in charge or not.
    [[nodiscard]] std::string name() const { return session_->name(); }
    /// Why it is not in charge, for a person; empty where it is, or is about to be.
    [[nodiscard]] std::string note() const { return session_->note(); }

  private:
    void watch();
    void abandon(const std::string& when);

    std::shared_ptr<PolicySession> session_;
    std::mutex mutex_;  // guards stop_
    std::condition_variable wake_;
    bool stop_ = false;
    std::thread policy_;
    std::thread watch_;
};

}  // namespace thermocline::memory
