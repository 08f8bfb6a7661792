// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "common/error.h"
#include "common/unique_fd.h"
#include "daemon/event_loop.h"
#include "libvirt-hook/hook_message.h"

namespace thermocline {

/// Hears what libvirt's hook (libvirt-hook/) says. A datagram socket, so that no hook ever waits for us: what
/// finds no room is lost, and libvirt's events say the same a little later. Belongs to the loop's thread;
/// removes the socket at its end.
class HookSocket {
  public:
    using Handler = std::function<void(const HookMessage&)>;

    /// Makes the socket anew, mode 0600; one that another daemon left is replaced. Error: systemError.
    static Result<std::unique_ptr<HookSocket>> open(EventLoop& loop, std::filesystem::path path,
                                                    Handler handler);
    HookSocket(const HookSocket&) = delete;
    HookSocket& operator=(const HookSocket&) = delete;
    ~HookSocket();

  private:
    HookSocket(std::filesystem::path path, UniqueFd socket, Handler handler);
    void receive();

    std::filesystem::path path_;
    UniqueFd socket_;
    Handler handler_;
    EventLoop::Source source_;
};

}  // namespace thermocline
