// SPDX-License-Identifier: Apache-2.0
#include "daemon/hook_socket.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>

namespace thermocline {

HookSocket::HookSocket(std::filesystem::path path, UniqueFd socket, Handler handler)
    : path_(std::move(path)), socket_(std::move(socket)), handler_(std::move(handler)) {}

HookSocket::~HookSocket() {
    source_.reset();
    ::unlink(path_.c_str());
}

Result<std::unique_ptr<HookSocket>> HookSocket::open(EventLoop& loop, std::filesystem::path path,
                                                     Handler handler) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.native().size() >= sizeof address.sun_path)
        return fail(
            ErrorCode::systemError,
            fmt::format("{} is too long a path for a socket; use a shorter --runtime-dir", path.string()));
    std::memcpy(static_cast<char*>(address.sun_path), path.c_str(), path.native().size());
    UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.valid()) return failErrno("socket for " + path.string());
    ::unlink(path.c_str());
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
        0)  // NOLINT: the API's cast
        return failErrno("bind " + path.string());
    if (::chmod(path.c_str(), 0600) != 0) return failErrno("chmod 0600 " + path.string());
    auto self =
        std::unique_ptr<HookSocket>(new HookSocket(std::move(path), std::move(socket), std::move(handler)));
    self->source_ =
        loop.watch(self->socket_.get(), EPOLLIN, [hook = self.get()](std::uint32_t) { hook->receive(); });
    return self;
}

void HookSocket::receive() {
    // One at a time: the loop comes back while there are more, and has its turn between them.
    std::array<char, HookMessage::maxBytes + 1> datagram{};
    const ssize_t size = ::recv(socket_.get(), datagram.data(), datagram.size(), 0);
    if (size < 0) return;
    const auto message = HookMessage::decode({datagram.data(), static_cast<std::size_t>(size)});
    if (!message) return spdlog::warn("{}: a message that no hook sends; ignoring it", path_.string());
    handler_(*message);
}

}  // namespace thermocline
