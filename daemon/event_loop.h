// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-event.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "common/unique_fd.h"

namespace thermocline {

/// The daemon's one core loop, over sd-event: everything that the daemon knows is owned and changed
/// on the thread that runs it. All methods belong to that thread, save post(), which any thread may
/// call. A handler may destroy its own Source. An exception that leaves a handler ends the program.
class EventLoop {
  public:
    using Task = std::function<void()>;

    /// A registration; destroying it ends it. Must not outlive the loop.
    class Source {
      public:
        Source() = default;
        Source(Source&&) noexcept = default;
        Source& operator=(Source&&) noexcept = default;
        Source(const Source&) = delete;
        Source& operator=(const Source&) = delete;
        ~Source() = default;
        [[nodiscard]] bool active() const { return registration_ != nullptr; }
        void reset() { registration_.reset(); }
        /// For sources of watch(): the epoll events to wait for from now on.
        void setEvents(std::uint32_t events);
        /// For sources of timer(): when to fire next, on CLOCK_MONOTONIC; max() means never.
        void setDeadline(std::chrono::microseconds sinceBoot);

      private:
        friend class EventLoop;
        struct Registration;
        struct Remove {
            void operator()(Registration* registration) const;
        };
        std::unique_ptr<Registration, Remove> registration_;
    };

    EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;
    ~EventLoop();

    /// Calls `handler` with the epoll events that came. The
    /// descriptor stays the caller's and must outlive the Source.
    [[nodiscard]] Source watch(int fd, std::uint32_t events, std::function<void(std::uint32_t)> handler);
    [[nodiscard]] Source after(std::chrono::milliseconds delay, Task task);
    [[nodiscard]] Source every(std::chrono::milliseconds interval, Task task);
    /// A timer that waits for setDeadline().
    [[nodiscard]] Source timer(Task task);
    /// REQUIRES: the signal is blocked in every thread.
    [[nodiscard]] Source onSignal(int signal, Task task);
    /// Called before each wait, for libraries that say only then what they wait for. One per loop.
    void beforeWait(Task task);

    /// Runs `task` on the loop's thread, in order. Thread-safe.
    void post(Task task);

    void run();
    void stop();
    /// For tests: runs until `done` says so; false when `timeout` came first.
    bool runUntil(const std::function<bool()>& done, std::chrono::milliseconds timeout);

  private:
    struct Unref {
        void operator()(sd_event* event) const { sd_event_unref(event); }
    };
    Source makeTimer(std::uint64_t deadline, std::uint64_t interval, Task task);
    void runPosted();

    std::unique_ptr<sd_event, Unref> event_;
    UniqueFd wakeUp_;
    Source posted_;
    Task beforeWait_;
    std::mutex mutex_;  ///< guards tasks_ only
    std::vector<Task> tasks_;
};

}  // namespace thermocline
