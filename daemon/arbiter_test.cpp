// SPDX-License-Identifier: Apache-2.0
#include "daemon/arbiter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace thermocline {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t gib = 1 << 30;
constexpr HostMemory roomy{64 * gib, 32 * gib};

ArbiterVm vm(std::string uuid, std::uint64_t need, std::uint32_t priority = defaultPriority) {
    ArbiterVm made;
    made.uuid = std::move(uuid);
    made.priority = priority;
    made.ram = 4 * gib;
    made.floor = 256 * mib;
    made.need = need;
    made.used = need;
    return made;
}

std::uint64_t given(const Division& division, std::size_t index) {
    return division.vms.at(index).bytes;
}

TEST(Arbiter, bindsNobodyWhereThereIsEnoughForAll) {
    const auto division = divide({8 * gib, 0, 0}, roomy, {vm("a", 3 * gib), vm("b", 4 * gib)});
    EXPECT_EQ(given(division, 0), 0U);
    EXPECT_EQ(given(division, 1), 0U);
    EXPECT_EQ(division.budget, 8 * gib);
    EXPECT_EQ(division.need, 7 * gib);
    EXPECT_THAT(division.vms[0].reason, HasSubstr("enough for all of its RAM, 4.0 GiB"));
}

TEST(Arbiter, whatIsShortIsGivenOutByPriorityAboveTheFloors) {
    // 4 GiB less two floors of 256 MiB are 3584 MiB: 896 and 2688 at 1 to 3.
    const auto division = divide({4 * gib, 0, 0}, roomy, {vm("a", 3 * gib, 100), vm("b", 3 * gib, 300)});
    EXPECT_EQ(given(division, 0), (256 + 896) * mib);
    EXPECT_EQ(given(division, 1), (256 + 2688) * mib);
    EXPECT_THAT(division.vms[0].reason, HasSubstr("all VMs need 6.0 GiB of 4.0 GiB"));
    EXPECT_THAT(division.vms[0].reason, HasSubstr("its share at priority 100"));
}

TEST(Arbiter, nobodyGetsMoreThanItsNeedWhileAnotherWants) {
    const auto division = divide({4 * gib, 0, 0}, roomy, {vm("a", 3584 * mib, 100), vm("b", gib, 300)});
    EXPECT_EQ(given(division, 0), 3 * gib);
    EXPECT_EQ(given(division, 1), gib);
    EXPECT_THAT(division.vms[1].reason, HasSubstr("its need of 1.0 GiB is within its share"));
}

TEST(Arbiter, whatIsLeftOverGoesByPriority) {
    const auto division = divide({4 * gib, 0, 0}, roomy, {vm("a", gib, 100), vm("b", gib, 300)});
    EXPECT_EQ(given(division, 0), 1536 * mib);
    EXPECT_EQ(given(division, 1), 2560 * mib);
    EXPECT_THAT(division.vms[0].reason, HasSubstr("its need of 1.0 GiB is met"));
}

TEST(Arbiter, nothingIsTakenForRoomThatNobodyUses) {
    auto idle = vm("idle", 100 * mib, 100);
    auto important = vm("important", 100 * mib, 400);
    idle.used = important.used = gib;
    auto division = divide({3 * gib, 0, 0}, roomy, {idle, important});
    EXPECT_EQ(given(division, 0), (1024 + 204) * mib);
    EXPECT_EQ(given(division, 1), (1024 + 819) * mib);
    // But for a need.
    important.need = important.used = 2560 * mib;
    division = divide({3 * gib, 0, 0}, roomy, {idle, important});
    EXPECT_EQ(given(division, 0), 512 * mib);
    EXPECT_EQ(given(division, 1), 2560 * mib);
    EXPECT_THAT(division.vms[0].reason, HasSubstr("of what it has beyond that, others need some"));
}

TEST(Arbiter, anIdleVmGivesToABusyOne) {
    const auto division = divide({3 * gib, 0, 0}, roomy, {vm("idle", 100 * mib), vm("busy", 3 * gib)});
    EXPECT_EQ(given(division, 0), 256 * mib);  // its floor
    EXPECT_EQ(given(division, 1), (3072 - 256) * mib);
}

TEST(Arbiter, aVmsOwnLimitIsItsCeilingAndTheRestIsForOthers) {
    auto limited = vm("a", 3 * gib);
    limited.ceiling = gib;
    const auto division = divide({4 * gib, 0, 0}, roomy, {limited, vm("b", 4 * gib)});
    EXPECT_EQ(given(division, 0), 0U);  // its own limit is all that holds
    EXPECT_EQ(given(division, 1), 3 * gib);
    EXPECT_THAT(division.vms[0].reason, HasSubstr("its own limit of 1.0 GiB"));
}

TEST(Arbiter, aShareIsOneOfTheHostsRam) {
    const auto division = divide({0, 0.0625, 0}, roomy, {vm("a", 4 * gib), vm("b", 4 * gib)});
    EXPECT_EQ(division.budget, 4 * gib);
    EXPECT_EQ(given(division, 0), 2 * gib);
    EXPECT_THAT(division.note, HasSubstr("6.25 % of 64.0 GiB, 4.0 GiB"));
}

TEST(Arbiter, keepsHeadRoomFree) {
    // Of what the VMs have (4 GiB) and the host has left (1 GiB), 2 GiB are to stay.
    const auto division =
        divide({8 * gib, 0, 2 * gib}, {16 * gib, gib}, {vm("a", 2 * gib), vm("b", 2 * gib)});
    EXPECT_EQ(division.budget, 3 * gib);
    EXPECT_EQ(given(division, 0), 1536 * mib);
    EXPECT_THAT(division.note, HasSubstr("3.0 GiB of it can be given out while 2.0 GiB"));
}

TEST(Arbiter, pressureTakesOffTheBudget) {
    const auto division = divide({4 * gib, 0, 0}, roomy, {vm("a", 2 * gib), vm("b", 2 * gib)}, gib);
    EXPECT_EQ(division.budget, 3 * gib);
    EXPECT_EQ(given(division, 1), 1536 * mib);
    EXPECT_THAT(division.note, HasSubstr("short of memory, so 1.0 GiB less"));
}

TEST(Arbiter, floorsHoldAlsoWhereTheyAreMoreThanThereIs) {
    auto big = vm("a", gib);
    big.floor = 3 * gib;
    const auto division = divide({2 * gib, 0, 0}, roomy, {big, vm("b", 3 * gib)});
    EXPECT_EQ(given(division, 0), 3 * gib);
    EXPECT_EQ(given(division, 1), 256 * mib);
    EXPECT_THAT(division.note, HasSubstr("it cannot be kept, since the VMs' floors are 3.2 GiB"));
}

TEST(Arbiter, takesNothingMoreWhereTheStoreSavesNothing) {
    auto noise = vm("a", 2 * gib);
    noise.storeNote = "its store grew by 1.0 GiB";
    const auto division = divide({3 * gib, 0, 0}, roomy, {noise, vm("b", 2 * gib)});
    EXPECT_EQ(given(division, 0), 2 * gib);
    EXPECT_EQ(given(division, 1), gib);
    EXPECT_THAT(division.vms[0].reason,
                HasSubstr("; nothing is taken of the 2.0 GiB that it has: its store grew by 1.0 GiB"));
    EXPECT_THAT(division.note, HasSubstr("nothing more is taken of 1 VM, since it would save nothing"));
}

TEST(Arbiter, smallChangesAreNotMade) {
    auto first = vm("a", gib);
    auto second = vm("b", gib);
    first.allotment = 1536 * mib + 20 * mib;
    second.allotment = 1536 * mib - 30 * mib;
    // Both would get 1536 MiB; a 64th of RAM is 64 MiB.
    auto division = divide({3 * gib, 0, 0}, roomy, {first, second});
    EXPECT_EQ(given(division, 0), 1536 * mib);  // 20 MiB more than there is
    EXPECT_EQ(given(division, 1), 1506 * mib);
    second.allotment = 1536 * mib - 64 * mib;
    division = divide({3 * gib, 0, 0}, roomy, {first, second});
    EXPECT_EQ(given(division, 1), 1536 * mib);
}

TEST(Arbiter, neverGivesOutMoreThanThereIs) {
    std::mt19937_64 random(7);  // NOLINT: the same every time
    const auto upTo = [&](std::uint64_t most) { return random() % (most + 1); };
    for (int round = 0; round < 2000; ++round) {
        std::vector<ArbiterVm> vms;
        std::uint64_t floors = 0;
        for (std::uint64_t i = 0; i <= upTo(8); ++i) {
            auto one = vm(std::to_string(i), upTo(5 * gib), static_cast<std::uint32_t>(1 + upTo(999)));
            one.floor = upTo(gib);
            if (upTo(3) == 0) one.ceiling = 16 * mib + upTo(3 * gib);
            one.allotment = upTo(1) == 0 ? 0 : upTo(4 * gib);
            if (upTo(9) == 0) one.storeNote = "no";
            const auto most = one.ceiling == 0 ? one.ram : std::min(one.ram, one.ceiling);
            floors += std::min(most, std::max(one.floor, one.storeNote.empty() ? 0 : one.used));
            vms.push_back(one);
        }
        const auto division = divide({64 * mib + upTo(24 * gib), 0, 0}, roomy, vms, upTo(gib));
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < vms.size(); ++i) {
            const auto most = vms[i].ceiling == 0 ? vms[i].ram : std::min(vms[i].ram, vms[i].ceiling);
            const auto bytes = given(division, i) == 0 ? most : given(division, i);
            EXPECT_LE(bytes, most);
            EXPECT_GE(bytes, std::min(most, vms[i].floor));
            EXPECT_FALSE(division.vms[i].reason.empty());
            sum += bytes;
        }
        if (floors <= division.budget) {
            ASSERT_LE(sum, division.budget) << "round " << round;
        } else {
            ASSERT_LE(sum, floors) << "round " << round;
        }
    }
}

TEST(Arbiter, prioritiesAreWholeNumbersInTheirRange) {
    EXPECT_EQ(parsePriority("1").value(), 1U);
    EXPECT_EQ(parsePriority("1000").value(), 1000U);
    for (const char* text : {"", "0", "1001", "-1", "1.5", "high", "5 ", "99999999999"}) {
        const auto parsed = parsePriority(text);
        ASSERT_FALSE(parsed) << text;
        EXPECT_THAT(parsed.error().message, HasSubstr("from 1 to 1000"));
    }
}

}  // namespace
}  // namespace thermocline
