// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/error.h"
#include "daemon/authorizer.h"
#include "daemon/daemon.h"
#include "daemon/event_loop.h"
#include "daemon/pending_calls.h"

namespace thermocline {

class ManagerObject;
class DomainObject;

/// The daemon on D-Bus (docs/dbus.md): the connection, which runs inside the core
/// loop, the name, and one object for the daemon and for each domain. Belongs to the
/// loop's thread: D-Bus requests are handled there and may use everything else without
/// locks; long ones answer later. REQUIRES: destroyed before the daemon that it shows.
class Bus : public Daemon::Observer {
  public:
    static constexpr const char* name = "org.thermocline1";
    static constexpr const char* rootPath = "/org/thermocline1";

    /// `address`: "system", "session", or an address such as "unix:path=/run/x". Errors: systemError.
    static Result<std::unique_ptr<Bus>> connect(EventLoop& loop, const std::string& address);
    ~Bus() override;
    Bus(const Bus&) = delete;
    Bus& operator=(const Bus&) = delete;

    /// Publishes the daemon and takes the name. Errors: alreadyRunning where it is taken; permissionDenied
    /// where the bus' policy does not let us have it. `onLost` is called should the bus end the connection.
    Result<void> publish(Daemon& daemon, const std::string& hypervisorUri, EventLoop::Task onLost);

    void domainAdded(Domain& domain) override;
    void domainRemoved(Domain& domain) override;
    void domainChanged(Domain& domain) override;
    void hypervisorChanged() override;
    void budgetChanged() override;

  private:
    Bus(EventLoop& loop, std::unique_ptr<sdbus::IConnection> connection);
    void updateWait();
    void process();
    void emitChanges();

    EventLoop& loop_;
    std::unique_ptr<sdbus::IConnection> connection_;
    EventLoop::Source socketSource_;
    EventLoop::Source timeoutSource_;
    EventLoop::Task onLost_;
    bool lost_ = false;
    EventLoop::Source changes_;  ///< signals that are due
    Daemon* daemon_ = nullptr;
    PendingCalls calls_;
    Authorizer authorizer_;  ///< before the objects, which its answers are for
    std::unique_ptr<ManagerObject> manager_;
    std::map<std::string, std::unique_ptr<DomainObject>> domains_;  ///< by UUID
};

/// Runs `emit`, which sends signals. They are lost with the
/// connection, which is told elsewhere, and no reason to fail.
void sendIfPossible(const std::function<void()>& emit);
/// Seconds since the epoch, as they come over the bus; far more than any clock will say is cut, so that
/// arithmetic with it stays defined.
std::chrono::sys_seconds timeOnBus(std::uint64_t seconds);
/// An error as it goes over the bus: org.thermocline1.Error.<name> with the message.
sdbus::Error toBusError(const Error& error);
/// /org/thermocline1/domain/<uuid with '-' as '_'>
sdbus::ObjectPath domainPath(const std::string& uuid);

}  // namespace thermocline
