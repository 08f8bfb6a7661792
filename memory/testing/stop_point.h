// SPDX-License-Identifier: Apache-2.0
#pragma once

// Stops the first thread that comes to a named sequence point (memory/sequence_point.h) for as long as a test
// needs to have something else happen just there. For tests; one test at a time, and no engine may run while
// a stop is made or destroyed. Its members are for the test's own thread.

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "memory/sequence_point.h"

namespace thermocline::memory::testing {

class StopPoint {
  public:
    explicit StopPoint(std::string point) : point_(std::move(point)) {
        all().push_back(this);
        sequenceListener = [](const char* passed) {
            for (auto* stop : all())
                if (stop->point_ == passed) stop->pass();
        };
    }
    ~StopPoint() {
        std::erase(all(), this);
        if (all().empty()) sequenceListener = nullptr;
    }
    StopPoint(const StopPoint&) = delete;
    StopPoint& operator=(const StopPoint&) = delete;

    /// The next thread that comes by stops.
    void arm() {
        const std::lock_guard lock(mutex_);
        state_ = State::armed;
    }
    /// Until one has; false after 30 s without.
    [[nodiscard]] bool await() {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return state_ == State::stopped; });
    }
    /// It goes on, and nobody stops any more.
    void letGo() {
        {
            const std::lock_guard lock(mutex_);
            state_ = State::open;
        }
        changed_.notify_all();
    }

  private:
    enum class State { open, armed, stopped };
    static std::vector<StopPoint*>& all() {
        static std::vector<StopPoint*> stops;
        return stops;
    }
    void pass() {
        std::unique_lock lock(mutex_);
        if (state_ != State::armed) return;
        state_ = State::stopped;
        changed_.notify_all();
        changed_.wait(lock, [&] { return state_ == State::open; });
    }

    const std::string point_;
    std::mutex mutex_;
    std::condition_variable changed_;
    State state_ = State::open;
};

}  // namespace thermocline::memory::testing
