// SPDX-License-Identifier: Apache-2.0
#include "memory/policy_requests.h"

#include <gtest/gtest.h>

namespace thermocline::memory {
namespace {

using List = PolicyRequests::List;
using std::chrono::milliseconds;

TEST(PolicyRequests, areTakenInTheOrderOfTheListThatCameLast) {
    PolicyRequests requests(10);
    EXPECT_EQ(requests.toStage(), std::nullopt);
    requests.replace(List::stage, {{7, 2}, {1, 0}, {3, 1}});
    EXPECT_EQ(requests.toStage(), 7U);
    EXPECT_EQ(requests.toStage(), 8U);
    EXPECT_EQ(requests.toStage(), 3U);
    EXPECT_EQ(requests.toStage(), std::nullopt);
    requests.replace(List::stage, {{7, 2}});
    requests.replace(List::stage, {{2, 1}});
    EXPECT_EQ(requests.toStage(), 2U);
    EXPECT_EQ(requests.toStage(), std::nullopt);
    EXPECT_EQ(requests.toEvict(), std::nullopt);
    requests.replace(List::evict, {{5, 1}});
    EXPECT_EQ(requests.toEvict(), 5U);
}

TEST(PolicyRequests, tellWhetherSomethingIsToComeBack) {
    PolicyRequests requests(10);
    EXPECT_FALSE(requests.wantsBack());
    requests.replace(List::bringBack, {{4, 1}});
    EXPECT_TRUE(requests.wantsBack());
    EXPECT_EQ(requests.toBringBack(), 4U);
    EXPECT_EQ(requests.toBringBack(), std::nullopt);
    EXPECT_FALSE(requests.wantsBack());
}

TEST(PolicyRequests, keepWhatIsToBeKeptUntilItsTimeHasCome) {
    PolicyRequests requests(10);
    requests.keep({2, 3}, std::chrono::hours(1));
    EXPECT_FALSE(requests.keeps(1));
    EXPECT_TRUE(requests.keeps(2));
    EXPECT_TRUE(requests.keeps(4));
    EXPECT_FALSE(requests.keeps(5));
    requests.keep({3, 1}, milliseconds(0));
    EXPECT_FALSE(requests.keeps(3));
    requests.keep({9, 1}, milliseconds(1));
    while (requests.keeps(9)) {
    }
    requests.replace(List::stage, {{1, 1}});
    requests.replace(List::bringBack, {{1, 1}});
    requests.clear();
    EXPECT_FALSE(requests.keeps(2));
    EXPECT_FALSE(requests.wantsBack());
    EXPECT_EQ(requests.toStage(), std::nullopt);
}

TEST(PolicyEvents, areDroppedAndCountedWhereNobodyTakesThem) {
    PolicyEvents events;
    for (std::uint64_t page = 0; page < PolicyEvents::capacity + 3; ++page)
        events.push({PolicyEvent::Kind::frozenFault, page});
    EXPECT_EQ(events.dropped(), 3U);
    for (std::uint64_t page = 0; page < PolicyEvents::capacity; ++page) {
        const auto event = events.pop();
        ASSERT_TRUE(event);
        ASSERT_EQ(event->number, page);
        ASSERT_EQ(event->kind, PolicyEvent::Kind::frozenFault);
    }
    EXPECT_FALSE(events.pop());
    events.push({PolicyEvent::Kind::goneCold, 1ULL << 60});
    EXPECT_EQ(events.pop()->number, 1ULL << 60);
}

}  // namespace
}  // namespace thermocline::memory
