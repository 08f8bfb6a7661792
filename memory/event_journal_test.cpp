// SPDX-License-Identifier: Apache-2.0
#include "memory/event_journal.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

namespace thermocline::memory {
namespace {

constexpr std::uint64_t mib = 1U << 20;

class EventJournalTest : public ::testing::Test {
  protected:
    void SetUp() override {
        char path[] = "/dev/shm/thermocline-test-XXXXXX";
        directory_ = ::mkdtemp(path);
        auto journal = EventJournal::create(path_(), AddressMap({{{512 * mib}, 64 * mib}}));
        ASSERT_TRUE(journal) << journal.error().message;
        journal_.emplace(std::move(*journal));
    }
    void TearDown() override {
        journal_.reset();
        std::filesystem::remove_all(directory_);
    }
    [[nodiscard]] std::string path_() const { return directory_ + "/events"; }
    /// What the next manager finds, if this one is killed now.
    void die() {
        journal_.reset();
        auto journal = EventJournal::open(path_());
        ASSERT_TRUE(journal) << journal.error().message;
        journal_.emplace(std::move(*journal));
    }
    void read(std::initializer_list<std::uint8_t> events) {
        std::size_t i = 0;
        for (const auto event : events)
            journal_->buffer()[i++].event = event;
    }
    void expectUnapplied(std::size_t first, std::size_t end) {
        die();
        EXPECT_EQ(journal_->unapplied().first, first);
        EXPECT_EQ(journal_->unapplied().end, end);
    }

    std::string directory_;
    std::optional<EventJournal> journal_;
};

TEST_F(EventJournalTest, keepsWhatWasReadUntilItIsApplied) {
    expectUnapplied(0, 0);
    read({UFFD_EVENT_PAGEFAULT, UFFD_EVENT_REMOVE, UFFD_EVENT_REMOVE});
    expectUnapplied(0, 3);
    journal_->applied(1);
    expectUnapplied(2, 3);
    journal_->applied(2);
    expectUnapplied(3, 3);
    journal_->forget(3);
    expectUnapplied(0, 0);
    read({UFFD_EVENT_REMOVE});
    expectUnapplied(0, 1);
}

TEST_F(EventJournalTest, theAddressMapChangesWithTheCount) {
    read({UFFD_EVENT_REMAP, UFFD_EVENT_UNMAP});
    auto addresses = journal_->addressMap();
    EXPECT_EQ(addresses.pages() * pageBytes, 64 * mib);
    addresses.remap({{512 * mib}, 64 * mib}, {1024 * mib});
    journal_->addresses(addresses);
    die();  // the change is not counted: it is to be made again
    EXPECT_EQ(journal_->addressMap().addressOf(0)->value, 512 * mib);
    expectUnapplied(0, 2);
    journal_->addresses(addresses);
    journal_->applied(0);
    expectUnapplied(1, 2);
    EXPECT_EQ(journal_->addressMap().addressOf(0)->value, 1024 * mib);
    EXPECT_EQ(journal_->addressMap().blocks(), 32U);
    addresses.unmap({{1024 * mib}, 16 * mib});
    journal_->addresses(addresses);
    journal_->applied(1);
    journal_->forget(2);
    expectUnapplied(0, 0);
    EXPECT_EQ(journal_->addressMap().pages() * pageBytes, 48 * mib);
}

TEST_F(EventJournalTest, remembersWhetherGuestRamIsRegistered) {
    EXPECT_FALSE(journal_->registered());
    journal_->setRegistered(true);
    die();
    EXPECT_TRUE(journal_->registered());
    journal_->setRegistered(false);
    die();
    EXPECT_FALSE(journal_->registered());
}

TEST_F(EventJournalTest, moreThanItCanHoldAndWhatIsNoJournalAreRefused) {
    std::vector<VmRange> many;
    for (std::uint64_t i = 0; i <= EventJournal::mostExtents; ++i)
        many.push_back({{(i + 1) * 4 * mib}, 2 * mib});
    read({UFFD_EVENT_UNMAP});
    journal_->addresses(AddressMap(many));
    journal_->applied(0);
    journal_.reset();
    const auto tooMany = EventJournal::open(path_());
    ASSERT_FALSE(tooMany);
    EXPECT_EQ(tooMany.error().code, ErrorCode::notSupported);
    EXPECT_NE(tooMany.error().message.find("500 pieces"), std::string::npos) << tooMany.error().message;
    std::filesystem::resize_file(path_(), 100);
    EXPECT_FALSE(EventJournal::open(path_()));
    std::filesystem::remove(path_());
    EXPECT_FALSE(EventJournal::open(path_()));
    EXPECT_TRUE(EventJournal::create(path_(), AddressMap(many)));
    EXPECT_FALSE(EventJournal::create(path_(), AddressMap(many))) << "over another one";
}

}  // namespace
}  // namespace thermocline::memory
