// SPDX-License-Identifier: Apache-2.0
// Hook for libvirt's hooks/qemu.d/: libvirt runs it as `thermocline-hook DOMAIN OPERATION SUB-OPERATION
// EXTRA` with the domain's XML on stdin, and waits for it, while the domain is locked. So it asks nobody
// anything, libvirt least of all: it leaves one datagram with the daemon, if there is room for it, and ends,
// always with 0, so that no VM is kept from starting. It prints nothing: what a hook prints takes the place
// of the XML of a domain that is restored or migrated.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "libvirt-hook/hook_message.h"

namespace {

using Clock = std::chrono::steady_clock;
// libvirt writes a few KiB at once. Who writes for longer than this is not libvirt.
constexpr auto patience = std::chrono::milliseconds(100);

void tell(const char* path, const std::string& datagram) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (datagram.size() > thermocline::HookMessage::maxBytes || std::strlen(path) >= sizeof address.sun_path)
        return;
    std::strcpy(static_cast<char*>(address.sun_path), path);  // NOLINT: its length was looked at
    const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    // No daemon, or one that does not get to read: it finds out by libvirt's own events.
    (void)::sendto(fd, datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                   reinterpret_cast<const sockaddr*>(&address), sizeof address);  // NOLINT: the API's cast
    ::close(fd);
}

/// So that whoever writes the XML sees no broken pipe; to its end, or until patience is.
void drainInput() {
    const auto end = Clock::now() + patience;
    std::array<char, 4096> bytes{};
    for (auto now = Clock::now(); now < end; now = Clock::now()) {
        pollfd input{STDIN_FILENO, POLLIN, 0};
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - now);
        if (::poll(&input, 1, static_cast<int>(left.count())) <= 0 ||
            (input.revents & (POLLIN | POLLHUP)) == 0)
            return;
        if (::read(STDIN_FILENO, bytes.data(), bytes.size()) <= 0) return;
    }
}

}  // namespace

int main(int argc, char** argv) {
    const char* const other = std::getenv("THERMOCLINE_HOOK_SOCKET");
    if (argc >= 4)
        tell(other != nullptr ? other : THERMOCLINE_HOOK_SOCKET,
             thermocline::HookMessage{argv[2], argv[3], argv[1]}.encode());
    drainInput();
    return 0;
}
