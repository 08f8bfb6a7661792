// SPDX-License-Identifier: Apache-2.0
#include "daemon/hook_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <vector>

#include "db/testing/temporary_directory.h"

namespace thermocline {
namespace {

using ::testing::ElementsAre;

TEST(HookMessage, comesBackAsItWent) {
    const HookMessage message{"started", "begin", "web 1"};
    EXPECT_EQ(HookMessage::decode(message.encode()), message);
    EXPECT_EQ(HookMessage::decode((HookMessage{"release", "", "x"}).encode()),
              (HookMessage{"release", "", "x"}));
}

TEST(HookMessage, isNothingElse) {
    using namespace std::string_literals;
    for (const std::string& datagram : {""s, "started"s, "started\0begin\0web"s, "started\0begin\0web\0more"s,
                                        "\0begin\0web\0"s, "started\0begin\0\0"s, std::string(2000, '\0')})
        EXPECT_FALSE(HookMessage::decode(datagram));
}

TEST(HookSocket, hearsHooksAndPassesOverNonsense) {
    const thermocline::testing::TemporaryDirectory directory;
    const auto path = directory.path() / HookMessage::socketName;
    EventLoop loop;
    std::vector<std::string> heard;
    const auto handler = [&](const HookMessage& message) {
        heard.push_back(message.domain + " " + message.operation);
    };
    auto old = HookSocket::open(loop, path, handler).value();
    auto socket = HookSocket::open(loop, path, handler).value();  // what was left there is no obstacle
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0600U);

    const UniqueFd sender(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(static_cast<char*>(address.sun_path), path.c_str(), path.native().size());
    const auto send = [&](const std::string& datagram) {
        return ::sendto(sender.get(), datagram.data(), datagram.size(), 0,
                        reinterpret_cast<const sockaddr*>(&address),
                        sizeof address);  // NOLINT: the API's cast
    };
    ASSERT_GT(send(HookMessage{"prepare", "begin", "a"}.encode()), 0);
    ASSERT_GT(send("nonsense"), 0);
    ASSERT_GT(send(HookMessage{"started", "begin", "b"}.encode()), 0);
    EXPECT_TRUE(loop.runUntil([&] { return heard.size() == 2; }, std::chrono::seconds(10)));
    EXPECT_THAT(heard, ElementsAre("a prepare", "b started"));
    socket.reset();
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_FALSE(HookSocket::open(loop, directory.path() / std::string(200, 'x'), handler));
}

}  // namespace
}  // namespace thermocline
