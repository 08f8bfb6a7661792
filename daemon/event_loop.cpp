// SPDX-License-Identifier: Apache-2.0
#include "daemon/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace thermocline {
namespace {

void check(int status, const char* what) {
    if (status < 0) throw std::system_error(-status, std::generic_category(), what);
}

std::uint64_t microseconds(std::chrono::milliseconds duration) {
    return static_cast<std::uint64_t>(std::chrono::microseconds(duration).count());
}

std::uint64_t monotonicNow() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

}  // namespace

struct EventLoop::Source::Registration {
    sd_event_source* source = nullptr;
    // Shared, because a handler may destroy the registration while it runs.
    std::shared_ptr<std::function<void(std::uint32_t)>> handler;
    std::uint64_t interval = 0;  ///< microseconds; 0 for what fires once

    static int onIo(sd_event_source* /*source*/, int /*fd*/, std::uint32_t events, void* self) {
        return call(self, events);
    }
    static int onSignal(sd_event_source* /*source*/, const signalfd_siginfo* /*info*/, void* self) {
        return call(self, 0);
    }
    static int onTime(sd_event_source* source, std::uint64_t due, void* self) {
        // Set up the next turn first: the handler may be the end of this registration.
        if (const auto interval = static_cast<Registration*>(self)->interval; interval != 0) {
            // A loop that was held up does not make up for missed turns.
            sd_event_source_set_time(source, std::max(due + interval, monotonicNow()));
            sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        }
        return call(self, 0);
    }
    static int call(void* self, std::uint32_t events) {
        const auto handler = static_cast<Registration*>(self)->handler;
        (*handler)(events);
        return 0;
    }
};

void EventLoop::Source::Remove::operator()(Registration* registration) const {
    sd_event_source_disable_unref(registration->source);
    delete registration;
}

void EventLoop::Source::setEvents(std::uint32_t events) {
    check(sd_event_source_set_io_events(registration_->source, events), "sd_event_source_set_io_events");
}

void EventLoop::Source::setDeadline(std::chrono::microseconds sinceBoot) {
    const bool never = sinceBoot == std::chrono::microseconds::max();
    if (!never)
        check(sd_event_source_set_time(registration_->source, static_cast<std::uint64_t>(sinceBoot.count())),
              "sd_event_source_set_time");
    check(sd_event_source_set_enabled(registration_->source, never ? SD_EVENT_OFF : SD_EVENT_ONESHOT),
          "sd_event_source_set_enabled");
}

EventLoop::EventLoop() {
    sd_event* event = nullptr;
    check(sd_event_new(&event), "sd_event_new");
    event_.reset(event);
    wakeUp_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    check(wakeUp_.valid() ? 0 : -errno, "eventfd");
    posted_ = watch(wakeUp_.get(), EPOLLIN, [this](std::uint32_t) { runPosted(); });
}

EventLoop::~EventLoop() = default;

EventLoop::Source EventLoop::watch(int fd, std::uint32_t events, std::function<void(std::uint32_t)> handler) {
    Source result;
    auto* const registration = new Source::Registration;
    result.registration_.reset(registration);
    registration->handler = std::make_shared<std::function<void(std::uint32_t)>>(std::move(handler));
    check(sd_event_add_io(event_.get(), &registration->source, fd, events, &Source::Registration::onIo,
                          registration),
          "sd_event_add_io");
    return result;
}

EventLoop::Source EventLoop::makeTimer(std::uint64_t deadline, std::uint64_t interval, Task task) {
    Source result;
    auto* const registration = new Source::Registration;
    result.registration_.reset(registration);
    registration->interval = interval;
    registration->handler = std::make_shared<std::function<void(std::uint32_t)>>(
        [task = std::move(task)](std::uint32_t) { task(); });
    constexpr std::uint64_t accuracy =
        1000;  // microseconds; the default of 250 ms is too coarse for figures per second
    check(sd_event_add_time(event_.get(), &registration->source, CLOCK_MONOTONIC, deadline, accuracy,
                            &Source::Registration::onTime, registration),
          "sd_event_add_time");
    return result;
}

EventLoop::Source EventLoop::after(std::chrono::milliseconds delay, Task task) {
    return makeTimer(monotonicNow() + microseconds(delay), 0, std::move(task));
}

EventLoop::Source EventLoop::every(std::chrono::milliseconds interval, Task task) {
    return makeTimer(monotonicNow() + microseconds(interval), microseconds(interval), std::move(task));
}

EventLoop::Source EventLoop::timer(Task task) {
    Source result = makeTimer(UINT64_MAX, 0, std::move(task));
    result.setDeadline(std::chrono::microseconds::max());
    return result;
}

EventLoop::Source EventLoop::onSignal(int signal, Task task) {
    Source result;
    auto* const registration = new Source::Registration;
    result.registration_.reset(registration);
    registration->handler = std::make_shared<std::function<void(std::uint32_t)>>(
        [task = std::move(task)](std::uint32_t) { task(); });
    check(sd_event_add_signal(event_.get(), &registration->source, signal, &Source::Registration::onSignal,
                              registration),
          "sd_event_add_signal");
    return result;
}

void EventLoop::beforeWait(Task task) {
    beforeWait_ = std::move(task);
}

void EventLoop::post(Task task) {
    {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
    }
    const std::uint64_t one = 1;
    // Cannot fail in a way that matters: the counter would have
    // to be at its end, and then the loop is awake anyway.
    [[maybe_unused]] const auto written = ::write(wakeUp_.get(), &one, sizeof one);
}

void EventLoop::runPosted() {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto got = ::read(wakeUp_.get(), &count, sizeof count);
    std::vector<Task> tasks;
    {
        const std::lock_guard lock(mutex_);
        tasks.swap(tasks_);
    }
    for (const auto& task : tasks)
        task();
}

void EventLoop::run() {
    while (sd_event_get_state(event_.get()) != SD_EVENT_FINISHED) {
        if (beforeWait_) beforeWait_();
        check(sd_event_run(event_.get(), UINT64_MAX), "sd_event_run");
    }
}

void EventLoop::stop() {
    check(sd_event_exit(event_.get(), 0), "sd_event_exit");
}

bool EventLoop::runUntil(const std::function<bool()>& done, std::chrono::milliseconds timeout) {
    const std::uint64_t end = monotonicNow() + microseconds(timeout);
    while (!done()) {
        const std::uint64_t now = monotonicNow();
        if (now >= end) return false;
        if (beforeWait_) beforeWait_();
        check(sd_event_run(event_.get(), end - now), "sd_event_run");
    }
    return true;
}

}  // namespace thermocline
