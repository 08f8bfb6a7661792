// SPDX-License-Identifier: Apache-2.0
// Against a real bus, with a polkit authority of the test's own.
#include "daemon/authorizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>

#include "daemon/testing/private_bus.h"
#include "db/testing/temporary_directory.h"

namespace thermocline {
namespace {

using ::testing::HasSubstr;
using Action = Authorizer::Action;

/// Answers from a thread of its own, as the real one does from a process of its own.
class FakePolkit {
  public:
    explicit FakePolkit(const std::string& address)
        : connection_(sdbus::createSessionBusConnectionWithAddress(address)),
          object_(sdbus::createObject(*connection_, "/org/freedesktop/PolicyKit1/Authority")) {
        object_->registerMethod("CheckAuthorization")
            .onInterface("org.freedesktop.PolicyKit1.Authority")
            .implementedAs([this](const Subject& subject, const std::string& action,
                                  const std::map<std::string, std::string>& details, std::uint32_t flags,
                                  const std::string& /*cancellation*/) {
                const std::scoped_lock lock(gate_, mutex_);
                asked_.push_back(subject.get<0>() + " " + action + " " + details.at("domain") + " " +
                                 std::to_string(flags));
                if (silent_) throw sdbus::Error("org.freedesktop.PolicyKit1.Error.Failed", "out of order");
                return Verdict{allows_, false, {}};
            });
        object_->finishRegistration();
        connection_->requestName("org.freedesktop.PolicyKit1");
        connection_->enterEventLoopAsync();
    }
    ~FakePolkit() { connection_->leaveEventLoop(); }
    FakePolkit(const FakePolkit&) = delete;
    FakePolkit& operator=(const FakePolkit&) = delete;

    std::vector<std::string> asked() {
        const std::lock_guard lock(mutex_);
        return asked_;
    }
    std::atomic<bool> allows_ = false;
    std::atomic<bool> silent_ = false;
    std::mutex gate_;  ///< held: no answers

  private:
    using Subject = sdbus::Struct<std::string, std::map<std::string, sdbus::Variant>>;
    using Verdict = sdbus::Struct<bool, bool, std::map<std::string, std::string>>;
    std::unique_ptr<sdbus::IConnection> connection_;
    std::unique_ptr<sdbus::IObject> object_;
    std::mutex mutex_;
    std::vector<std::string> asked_;
};

/// A client on the bus, as another user; it only sits there.
class Client {
  public:
    Client(const std::string& address, uid_t user) {
        std::array<int, 2> ends{};
        if (::pipe(ends.data()) != 0) throw std::runtime_error("pipe");
        pid_ = ::fork();
        if (pid_ == 0) {
            if (::setuid(user) != 0) ::_exit(1);
            try {
                const auto connection = sdbus::createSessionBusConnectionWithAddress(address);
                const std::string name = connection->getUniqueName() + "\n";
                if (::write(ends[1], name.data(), name.size()) < 0) ::_exit(1);
                ::pause();
            } catch (const sdbus::Error&) {
            }
            ::_exit(1);
        }
        ::close(ends[1]);
        for (char c = 0; ::read(ends[0], &c, 1) == 1 && c != '\n';)
            name_ += c;
        ::close(ends[0]);
    }
    ~Client() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    [[nodiscard]] const std::string& name() const { return name_; }

  private:
    pid_t pid_ = 0;
    std::string name_;
};

class AuthorizerTest : public ::testing::Test {
  protected:
    static constexpr uid_t person = 65534;  // one that is known here, or the bus does not let it in

    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root to become others";
        std::filesystem::permissions(directory_.path(), std::filesystem::perms::all);
        bus_ = std::make_unique<testing::PrivateBus>(directory_.path(), "<allow user='*'/>");
        connection_ = sdbus::createSessionBusConnectionWithAddress(bus_->address());
        authorizer_ = std::make_unique<Authorizer>(*connection_);
    }
    void process(const std::function<bool()>& done) {
        while (!done()) {
            const auto poll = connection_->getEventLoopPollData();
            ::pollfd wait{poll.fd, poll.events, 0};
            ::poll(&wait, 1, poll.getPollTimeout());
            while (connection_->processPendingRequest()) {
            }
        }
    }
    Result<void> ask(const std::string& sender, Action action = Action::manageDomain,
                     std::optional<uid_t> owner = std::nullopt) {
        std::optional<Result<void>> answer;
        authorizer_->check(sender, action, owner, {{"domain", "web1"}},
                           [&](Result<void> result) { answer = std::move(result); });
        process([&] { return answer.has_value(); });
        return *answer;
    }
    void refuses(const Result<void>& result, const std::string& words) {
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code, ErrorCode::permissionDenied);
        EXPECT_THAT(result.error().message, HasSubstr(words));
    }

    thermocline::testing::TemporaryDirectory directory_;
    std::unique_ptr<testing::PrivateBus> bus_;
    std::unique_ptr<sdbus::IConnection> connection_;
    std::unique_ptr<Authorizer> authorizer_;
};

TEST_F(AuthorizerTest, rootNeedsNoPolkit) {
    const Client root(bus_->address(), 0);
    EXPECT_TRUE(ask(root.name()));
    EXPECT_TRUE(ask(root.name(), Action::manageHost));
}

TEST_F(AuthorizerTest, withoutPolkitNobodyElseMay) {
    const Client other(bus_->address(), person);
    refuses(ask(other.name()),
            "only root may do this: there is no polkit on this bus that could let user 65534");
}

TEST_F(AuthorizerTest, theOwnerMayChangeItsDomainAndNothingElse) {
    const Client owner(bus_->address(), person);
    EXPECT_TRUE(ask(owner.name(), Action::manageDomain, person));
    refuses(ask(owner.name(), Action::manageDomain, person + 1), "only root");
    refuses(ask(owner.name(), Action::manageHost, person), "only root");
}

TEST_F(AuthorizerTest, polkitDecidesAboutOthers) {
    FakePolkit polkit(bus_->address());
    const Client other(bus_->address(), person);
    refuses(ask(other.name()), "polkit does not authorize user 65534 for org.thermocline1.manage-domain");
    polkit.allows_ = true;
    EXPECT_TRUE(ask(other.name(), Action::manageHost));
    EXPECT_THAT(polkit.asked(),
                ::testing::ElementsAre("system-bus-name org.thermocline1.manage-domain web1 1",
                                       "system-bus-name org.thermocline1.manage-host web1 1"));
    polkit.silent_ = true;
    refuses(ask(other.name()), "polkit does not answer: out of order");
}

TEST_F(AuthorizerTest, whoIsGoneMayNothing) {
    refuses(ask(":1.99999"), "does not say whose client :1.99999 is");
}

TEST_F(AuthorizerTest, aFloodIsRefusedAndDoesNotLast) {
    FakePolkit polkit(bus_->address());
    polkit.allows_ = true;
    const Client other(bus_->address(), person);
    std::unique_lock held(polkit.gate_);
    int allowed = 0;
    int busy = 0;
    for (int i = 0; i < 40; ++i)
        authorizer_->check(other.name(), Action::manageDomain, std::nullopt, {{"domain", "web1"}},
                           [&](const Result<void>& result) {
                               if (result)
                                   ++allowed;
                               else if (result.error().code == ErrorCode::busy)
                                   ++busy;
                           });
    process([&] { return busy == 24; });
    EXPECT_TRUE(ask(Client(bus_->address(), 0).name()));  // root is not held up
    held.unlock();
    process([&] { return allowed == 16; });
    EXPECT_TRUE(ask(other.name()));
    EXPECT_EQ(busy, 24);
}

TEST(OwnerOf, isAPersonOnly) {
    EXPECT_FALSE(isPerson(0));
    EXPECT_FALSE(isPerson(999));
    EXPECT_TRUE(isPerson(1000));
    EXPECT_TRUE(isPerson(60000));
    EXPECT_FALSE(isPerson(64055));  // libvirt-qemu
    EXPECT_FALSE(isPerson(65534));
    EXPECT_EQ(ownerOf(0), std::nullopt);
    EXPECT_EQ(ownerOf(1), std::nullopt);
    EXPECT_EQ(ownerOf(::getpid()).has_value(), isPerson(::geteuid()));
}

}  // namespace
}  // namespace thermocline
