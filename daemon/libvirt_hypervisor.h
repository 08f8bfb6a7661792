// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "daemon/event_loop.h"
#include "daemon/hypervisor.h"

namespace thermocline {

/// libvirt behind the Hypervisor seam. Two threads besides the core: libvirt's event loop, which runs as long
/// as the process as libvirt demands, and a worker, the only one that calls into libvirt, so that a libvirtd
/// that hangs holds up neither the core nor the keep-alive that finds out. What the worker learns is posted
/// to the core loop. Lost connections are tried again after 0.5 s, then twice as long each time up to 10 s.
class LibvirtHypervisor : public Hypervisor {
  public:
    LibvirtHypervisor(EventLoop& loop, std::string uri);
    /// Returns within half a second, even where libvirt hangs; the worker then ends on its own. What
    /// setOvercommit() was given is still written meanwhile.
    ~LibvirtHypervisor() override;

    void start(Listener& listener) override;
    void setOvercommit(const std::string& uuid, std::optional<std::string> element,
                       std::function<void(Result<void>)> done) override;
    void suspend(const std::string& uuid, std::function<void(Result<void>)> done) override;

  private:
    struct Worker;
    std::shared_ptr<Worker> worker_;
};

}  // namespace thermocline
