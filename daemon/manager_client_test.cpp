// SPDX-License-Identifier: Apache-2.0
#include "daemon/manager_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <optional>

#include "db/testing/temporary_directory.h"

namespace thermocline {
namespace {

using namespace std::chrono_literals;

struct Recorder : ManagerClient::Listener {
    void onStatus(const manager::Status& status) override { faults.push_back(status.faults); }
    void onGone() override { ++gone; }
    void onClosed() override { ++closed; }
    std::vector<std::uint64_t> faults;
    int gone = 0;
    int closed = 0;
};

/// The other end is played by the test itself.
class ManagerClientTest : public ::testing::Test {
  protected:
    void SetUp() override {
        listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path().c_str(), sizeof address.sun_path - 1);
        ASSERT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        ASSERT_EQ(::listen(listener_.get(), 1), 0);
        auto client = ManagerClient::connect(loop_, path(), recorder_);
        ASSERT_TRUE(client);
        client_ = std::move(*client);
        peer_.reset(::accept(listener_.get(), nullptr, nullptr));
    }
    nlohmann::json received() {
        std::string packet(65536, '\0');
        const auto size = ::recv(peer_.get(), packet.data(), packet.size(), 0);
        return size > 0 ? nlohmann::json::parse(packet.substr(0, static_cast<std::size_t>(size)))
                        : nlohmann::json();
    }
    void say(const std::string& packet) {
        ASSERT_GT(::send(peer_.get(), packet.data(), packet.size(), 0), 0);
    }
    bool until(const std::function<bool()>& done) { return loop_.runUntil(done, 5s); }
    [[nodiscard]] std::filesystem::path path() const { return directory_.path() / "manager.sock"; }

    thermocline::testing::TemporaryDirectory directory_;
    EventLoop loop_;
    Recorder recorder_;
    UniqueFd listener_;
    UniqueFd peer_;
    std::unique_ptr<ManagerClient> client_;
};

TEST_F(ManagerClientTest, matchesAnswersToRequests) {
    std::optional<Result<manager::Status>> limit;
    std::optional<Result<manager::Status>> status;
    client_->setLimit(4096, [&](Result<manager::Status> result) { limit = std::move(result); });
    client_->status([&](Result<manager::Status> result) { status = std::move(result); });
    const auto first = received();
    const auto second = received();
    EXPECT_EQ(first.at("method"), "set-limit");
    EXPECT_EQ(first.at("params").at("limit_bytes"), 4096);
    EXPECT_EQ(second.at("method"), "status");
    EXPECT_NE(first.at("id"), second.at("id"));

    manager::Status figures;
    figures.residentBytes = 123;
    say(nlohmann::json{{"id", second.at("id")}, {"result", figures}}.dump());
    ASSERT_TRUE(until([&] { return status.has_value(); }));
    EXPECT_EQ((*status)->residentBytes, 123U);
    EXPECT_FALSE(limit.has_value());
    say(nlohmann::json{{"id", first.at("id")}, {"error", {{"name", "InvalidLimit"}, {"message", "too low"}}}}
            .dump());
    ASSERT_TRUE(until([&] { return limit.has_value(); }));
    EXPECT_EQ(limit->error().code, ErrorCode::invalidLimit);
    EXPECT_EQ(limit->error().message, "too low");
}

TEST_F(ManagerClientTest, asksForTheProactivePolicyAndTheHeat) {
    std::optional<Result<manager::Status>> set;
    std::optional<Result<memory::HeatMap>> heat;
    client_->setProactive(0.005, 4096, [&](Result<manager::Status> result) { set = std::move(result); });
    client_->heat(2, [&](Result<memory::HeatMap> result) { heat = std::move(result); });
    const auto first = received();
    const auto second = received();
    EXPECT_EQ(first.at("method"), "set-proactive");
    EXPECT_EQ(first.at("params"), (nlohmann::json{{"max_stall", 0.005}, {"min_resident_bytes", 4096}}));
    EXPECT_EQ(second.at("method"), "heat");
    EXPECT_EQ(second.at("params"), (nlohmann::json{{"pieces", 2}}));
    say(nlohmann::json{{"id", first.at("id")},
                       {"error", {{"name", "InvalidArgument"}, {"message", "from 0.0001 to 0.5"}}}}
            .dump());
    say(nlohmann::json{{"id", second.at("id")},
                       {"result", {{"working_set_bytes", 7}, {"pieces", {{1, 2, 3, 4}, {5, 6, 7, 8}}}}}}
            .dump());
    ASSERT_TRUE(until([&] { return set.has_value() && heat.has_value(); }));
    EXPECT_EQ(set->error().code, ErrorCode::invalidArgument);
    EXPECT_EQ(set->error().message, "from 0.0001 to 0.5");
    ASSERT_TRUE(*heat);
    EXPECT_EQ((*heat)->workingSetBytes, 7U);
    EXPECT_EQ((*heat)->pieces.at(1).cold, 8U);
}

TEST_F(ManagerClientTest, asksForTheFileTiersEnd) {
    std::optional<Result<manager::Status>> closed;
    client_->closeFileTier([&](Result<manager::Status> result) { closed = std::move(result); });
    const auto request = received();
    EXPECT_EQ(request.at("method"), "close-file-tier");
    manager::Status figures;
    figures.fileTier = "being emptied";
    say(nlohmann::json{{"id", request.at("id")}, {"result", figures}}.dump());
    ASSERT_TRUE(until([&] { return closed.has_value(); }));
    EXPECT_EQ((*closed)->fileTier, "being emptied");
}

TEST_F(ManagerClientTest, passesEventsOn) {
    manager::Status figures;
    figures.faults = 5;
    say(nlohmann::json{{"event", "status"}, {"status", figures}}.dump());
    say(R"({"event": "something new"})");
    say(R"({"event": "gone"})");
    ASSERT_TRUE(until([&] { return recorder_.gone == 1; }));
    EXPECT_THAT(recorder_.faults, ::testing::ElementsAre(5));
    EXPECT_EQ(recorder_.closed, 0);
}

TEST_F(ManagerClientTest, nonsenseCostsALineInTheLogOnly) {
    for (const char* packet :
         {"{half", "[]", "42", R"({"id": "x", "result": {}})", R"({"event": "status", "status": {}})",
          R"({"id": 99, "result": {}})", R"({"event": 7})"})
        say(packet);
    say(R"({"event": "gone"})");
    ASSERT_TRUE(until([&] { return recorder_.gone == 1; }));
    EXPECT_TRUE(recorder_.faults.empty());
}

TEST_F(ManagerClientTest, anAnswerThatIsNoStatusIsAnError) {
    std::optional<Result<manager::Status>> status;
    client_->status([&](Result<manager::Status> result) { status = std::move(result); });
    say(nlohmann::json{{"id", received().at("id")}, {"result", {{"pid", "x"}}}}.dump());
    ASSERT_TRUE(until([&] { return status.has_value(); }));
    EXPECT_EQ(status->error().code, ErrorCode::internal);
}

TEST_F(ManagerClientTest, theEndAnswersEverythingThenTells) {
    int failed = 0;
    for (int i = 0; i < 3; ++i)
        client_->detach([&](Result<manager::Status> result) {
            EXPECT_EQ(result.error().code, ErrorCode::processGone);
            EXPECT_EQ(recorder_.closed, 0);
            ++failed;
        });
    peer_.reset();
    ASSERT_TRUE(until([&] { return recorder_.closed == 1; }));
    EXPECT_EQ(failed, 3);
    std::optional<Result<manager::Status>> late;
    client_->status([&](Result<manager::Status> result) { late = std::move(result); });
    EXPECT_FALSE(late.has_value());  // never from within the call
    ASSERT_TRUE(until([&] { return late.has_value(); }));
    EXPECT_EQ(late->error().code, ErrorCode::processGone);
}

TEST_F(ManagerClientTest, aCallbackMayDestroyTheClient) {
    client_->status([&](const Result<manager::Status>&) { client_.reset(); });
    client_->status([](const Result<manager::Status>&) { FAIL() << "answered after the destruction"; });
    peer_.reset();
    ASSERT_TRUE(until([&] { return client_ == nullptr; }));
    EXPECT_EQ(recorder_.closed, 0);
}

TEST_F(ManagerClientTest, knowsTheManagersProcess) {
    EXPECT_EQ(client_->managerPid(), ::getpid());
}

TEST_F(ManagerClientTest, nobodyListens) {
    const auto missing = ManagerClient::connect(loop_, directory_.path() / "none.sock", recorder_);
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, ErrorCode::processGone);
    listener_.reset();
    peer_.reset();
    EXPECT_EQ(ManagerClient::connect(loop_, path(), recorder_).error().code, ErrorCode::processGone);
}

}  // namespace
}  // namespace thermocline
