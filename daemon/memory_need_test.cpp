// SPDX-License-Identifier: Apache-2.0
#include "daemon/memory_need.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

constexpr std::uint64_t mib = 1 << 20;

class MemoryNeedTest : public ::testing::Test {
  protected:
    MemoryNeedTest() {
        status_.pid = 7;
        status_.memoryBytes = 1024 * mib;
        status_.residentBytes = 512 * mib;
        status_.usedBytes = 512 * mib;
    }
    void observe(std::chrono::milliseconds later = 1s) {
        now_ += later;
        need_.observe(now_, status_);
    }

    MemoryNeed::Time now_{};
    manager::Status status_;
    MemoryNeed need_;
};

TEST_F(MemoryNeedTest, isWhatIsResident) {
    EXPECT_EQ(need_.bytes(), 0U);
    observe();
    EXPECT_EQ(need_.bytes(), 512 * mib);
    status_.stagedBytes = 100 * mib;  // set aside: not needed
    observe();
    EXPECT_EQ(need_.bytes(), 512 * mib);
}

TEST_F(MemoryNeedTest, risesAtOnceAndHalvesItsWayDownIn20s) {
    observe();
    status_.residentBytes = 900 * mib;
    observe();
    EXPECT_EQ(need_.bytes(), 900 * mib);
    status_.residentBytes = 100 * mib;
    observe(20s);
    EXPECT_EQ(need_.bytes(), 500 * mib);
    observe(20s);
    EXPECT_EQ(need_.bytes(), 300 * mib);
}

TEST_F(MemoryNeedTest, pagesThatCameBackAreCountedFourSecondsAhead) {
    observe();
    status_.coldFaults += 1000;
    status_.frozenFaults += 24;
    status_.prefetchedPages += 256;
    observe(500ms);
    EXPECT_EQ(need_.bytes(), 512 * mib + std::uint64_t{1280} * 4096 * 2 * 4);
}

TEST_F(MemoryNeedTest, whoWaitsUnderALimitNeedsMore) {
    status_.stallRatio = 0.03;
    observe();
    EXPECT_EQ(need_.bytes(), 512 * mib);  // no limit is to blame
    status_.limitBytes = 600 * mib;
    status_.usedBytes = 590 * mib;
    observe();
    EXPECT_EQ(need_.bytes(), (590 + 64) * mib);
}

TEST_F(MemoryNeedTest, isNeverMoreThanRam) {
    observe();
    status_.coldFaults += 1'000'000;
    observe();
    EXPECT_EQ(need_.bytes(), 1024 * mib);
}

TEST_F(MemoryNeedTest, anotherAttachBeginsAnew) {
    observe();
    status_.pid = 8;
    status_.residentBytes = 10 * mib;
    observe();
    EXPECT_EQ(need_.bytes(), 10 * mib);
}

TEST_F(MemoryNeedTest, aStoreThatSavesEnoughIsLeftAlone) {
    observe();
    status_.coldBytes = 300 * mib;
    status_.storeBytes = 199 * mib;
    observe();
    EXPECT_EQ(need_.storeNote(now_), "");
}

TEST_F(MemoryNeedTest, aStoreThatGrowsFasterThanItSavesStopsIt) {
    observe();
    status_.coldBytes = 300 * mib;
    status_.storeBytes = 201 * mib;
    observe();
    EXPECT_EQ(need_.storeNote(now_), "its store grew by 201.0 MiB within 1 s and saved only 99.0 MiB");
    EXPECT_NE(need_.storeNote(now_ + 29s), "");
    EXPECT_EQ(need_.storeNote(now_ + 30s), "");
    // And again: for twice as long.
    now_ += 30s;
    observe();
    status_.storeBytes += 50 * mib;
    observe();
    EXPECT_THAT(need_.storeNote(now_ + 59s), HasSubstr("grew by 50.0 MiB"));
    EXPECT_EQ(need_.storeNote(now_ + 60s), "");
}

TEST_F(MemoryNeedTest, aLimitThatCannotBeMetStopsIt) {
    status_.limitBytes = 100 * mib;
    status_.limitMet = false;
    observe();
    EXPECT_EQ(need_.storeNote(now_), "");  // it is being worked on
    status_.limitNote = "28.2 MiB over the limit with nothing left to take";
    observe();
    EXPECT_EQ(need_.storeNote(now_), "its manager has nothing left to take");
    observe();
    EXPECT_NE(need_.storeNote(now_ + 28s), "");
    EXPECT_EQ(need_.storeNote(now_ + 29s), "");
    now_ += 60s;
    observe();  // it is tried again, in vain: for twice as long
    EXPECT_NE(need_.storeNote(now_ + 59s), "");
}

TEST_F(MemoryNeedTest, whatHappenedMoreThanTenSecondsApartIsNotAddedUp) {
    for (int i = 0; i < 8; ++i) {
        status_.storeBytes += 4 * mib;  // 8 MiB are the least to be judged
        observe(11s);
    }
    EXPECT_EQ(need_.storeNote(now_), "");
    status_.storeBytes += 4 * mib;
    observe(1s);
    status_.storeBytes += 4 * mib;
    observe(1s);
    EXPECT_NE(need_.storeNote(now_), "");
}

}  // namespace
}  // namespace thermocline
