// SPDX-License-Identifier: Apache-2.0
#include "daemon/event_loop.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <thread>

namespace thermocline {
namespace {

using namespace std::chrono_literals;

TEST(EventLoop, runsPostedTasksInOrderOnItsOwnThread) {
    EventLoop loop;
    std::vector<int> order;
    std::thread::id where;
    std::thread other([&] {
        for (int i = 0; i < 100; ++i)
            loop.post([&, i] { order.push_back(i); });
        loop.post([&] { where = std::this_thread::get_id(); });
    });
    ASSERT_TRUE(loop.runUntil([&] { return where != std::thread::id(); }, 5s));
    other.join();
    ASSERT_EQ(order.size(), 100U);
    for (int i = 0; i < 100; ++i)
        EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
    EXPECT_EQ(where, std::this_thread::get_id());
}

TEST(EventLoop, tellsOfDescriptorsUntilTheSourceIsGone) {
    EventLoop loop;
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const UniqueFd readEnd(ends[0]);
    const UniqueFd writeEnd(ends[1]);
    int calls = 0;
    auto source = loop.watch(readEnd.get(), EPOLLIN, [&](std::uint32_t events) {
        EXPECT_EQ(events, static_cast<std::uint32_t>(EPOLLIN));
        ++calls;
    });
    EXPECT_FALSE(loop.runUntil([&] { return calls > 0; }, 20ms));
    ASSERT_EQ(::write(writeEnd.get(), "x", 1), 1);
    EXPECT_TRUE(loop.runUntil([&] { return calls == 1; }, 5s));
    source.reset();
    EXPECT_FALSE(source.active());
    EXPECT_FALSE(loop.runUntil([&] { return calls > 1; }, 20ms));
}

TEST(EventLoop, aHandlerMayDestroyItself) {
    EventLoop loop;
    std::optional<EventLoop::Source> source;
    const auto kept = std::make_shared<int>(7);
    int seen = 0;
    source = loop.after(1ms, [&, kept] {
        source.reset();
        seen = *kept;  // what the handler captured is still there
    });
    EXPECT_TRUE(loop.runUntil([&] { return seen == 7; }, 5s));
    EXPECT_EQ(kept.use_count(), 1);
}

TEST(EventLoop, timersFireOnceOrAgainAndAgain) {
    EventLoop loop;
    int once = 0;
    int often = 0;
    const auto first = loop.after(1ms, [&] { ++once; });
    const auto second = loop.every(2ms, [&] { ++often; });
    EXPECT_TRUE(loop.runUntil([&] { return often == 5; }, 5s));
    EXPECT_EQ(once, 1);
}

TEST(EventLoop, runEndsWithStop) {
    EventLoop loop;
    bool ran = false;
    loop.post([&] {
        ran = true;
        loop.stop();
    });
    loop.run();
    EXPECT_TRUE(ran);
}

TEST(EventLoop, takesSignals) {
    sigset_t set;
    sigset_t before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    ::pthread_sigmask(SIG_BLOCK, &set, &before);
    EventLoop loop;
    bool came = false;
    const auto source = loop.onSignal(SIGUSR1, [&] { came = true; });
    ::kill(::getpid(), SIGUSR1);
    EXPECT_TRUE(loop.runUntil([&] { return came; }, 5s));
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace
}  // namespace thermocline
