// SPDX-License-Identifier: Apache-2.0
#include "daemon/bus.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "daemon/domain_object.h"
#include "daemon/manager_object.h"

namespace thermocline {
namespace {

std::unique_ptr<sdbus::IConnection> open(const std::string& address) {
    if (address == "system") return sdbus::createSystemBusConnection();
    if (address == "session") return sdbus::createSessionBusConnection();
    return sdbus::createSessionBusConnectionWithAddress(address);
}

}  // namespace

void sendIfPossible(const std::function<void()>& emit) {
    try {
        emit();
    } catch (const sdbus::Error& error) {
        spdlog::debug("a signal was not sent: {}", error.getMessage());
    }
}

std::chrono::sys_seconds timeOnBus(std::uint64_t seconds) {
    constexpr std::uint64_t farFuture = 1ULL << 40;
    return std::chrono::sys_seconds(
        std::chrono::seconds(static_cast<std::int64_t>(std::min(seconds, farFuture))));
}

sdbus::Error toBusError(const Error& error) {
    return {fmt::format("{}.Error.{}", Bus::name, errorName(error.code)), error.message};
}

sdbus::ObjectPath domainPath(const std::string& uuid) {
    std::string element = uuid;
    std::replace(element.begin(), element.end(), '-', '_');
    return sdbus::ObjectPath(fmt::format("{}/domain/{}", Bus::rootPath, element));
}

Result<std::unique_ptr<Bus>> Bus::connect(EventLoop& loop, const std::string& address) {
    try {
        return std::unique_ptr<Bus>(new Bus(loop, open(address)));
    } catch (const sdbus::Error& error) {
        return fail(
            ErrorCode::systemError,
            fmt::format(
                "cannot connect to the {}{}: {}; start it (for the system bus: systemctl start dbus, or "
                "dbus-daemon --system --fork)",
                address == "system" || address == "session" ? address + " bus" : "bus at ",
                address == "system" || address == "session" ? "" : address, error.getMessage()));
    }
}

Bus::Bus(EventLoop& loop, std::unique_ptr<sdbus::IConnection> connection)
    : loop_(loop), connection_(std::move(connection)), authorizer_(*connection_) {
    const auto poll = connection_->getEventLoopPollData();
    // The events of poll(2) and epoll(7) have the same values.
    socketSource_ =
        loop_.watch(poll.fd, static_cast<std::uint32_t>(poll.events), [this](std::uint32_t) { process(); });
    timeoutSource_ = loop_.timer([this] { process(); });
    loop_.beforeWait([this] { updateWait(); });
}

Bus::~Bus() {
    loop_.beforeWait(nullptr);
    if (daemon_ != nullptr) daemon_->unobserve();
    calls_.failAll(
        {ErrorCode::busy, "thermoclined is ending; what was under way goes on, ask again when it is back"});
    domains_.clear();
    manager_.reset();
}

void Bus::updateWait() {
    if (lost_) return;
    const auto poll = connection_->getEventLoopPollData();
    socketSource_.setEvents(static_cast<std::uint32_t>(poll.events));
    timeoutSource_.setDeadline(poll.timeout_usec == UINT64_MAX
                                   ? std::chrono::microseconds::max()
                                   : std::chrono::microseconds(poll.timeout_usec));
}

void Bus::process() {
    try {
        while (connection_->processPendingRequest()) {
        }
    } catch (const sdbus::Error& error) {
        lost_ = true;
        socketSource_.reset();
        timeoutSource_.reset();
        spdlog::critical("the connection to the bus is lost: {}", error.getMessage());
        if (onLost_) onLost_();
    }
}

Result<void> Bus::publish(Daemon& daemon, const std::string& hypervisorUri, EventLoop::Task onLost) {
    daemon_ = &daemon;
    onLost_ = std::move(onLost);
    try {
        manager_ = std::make_unique<ManagerObject>(*connection_, calls_, authorizer_, daemon, hypervisorUri);
        connection_->requestName(name);
    } catch (const sdbus::Error& error) {
        if (error.getName() == "System.Error.EEXIST" ||
            error.getName() == "org.freedesktop.DBus.Error.FileExists")
            return fail(ErrorCode::alreadyRunning,
                        fmt::format("another thermoclined owns {} on this bus; stop it first", name));
        return fail(
            ErrorCode::permissionDenied,
            fmt::format(
                "cannot own {} on this bus: {}; install the policy file org.thermocline1.conf, and run as "
                "root",
                name, error.getMessage()));
    }
    return {};
}

void Bus::domainAdded(Domain& domain) {
    domains_[domain.uuid()] =
        std::make_unique<DomainObject>(*connection_, calls_, authorizer_, *daemon_, domain);
    manager_->domainAdded(domainPath(domain.uuid()));
}

void Bus::domainRemoved(Domain& domain) {
    domains_.erase(domain.uuid());
    manager_->domainRemoved(domainPath(domain.uuid()));
}

void Bus::domainChanged(Domain& domain) {
    const auto object = domains_.find(domain.uuid());
    if (object == domains_.end()) return;
    object->second->markChanged();
    if (changes_.active()) return;
    // One signal for everything that changes in the same turn of the loop; managers report once a second.
    changes_ = loop_.after(std::chrono::milliseconds(0), [this] { emitChanges(); });
}

void Bus::emitChanges() {
    changes_.reset();
    for (const auto& [uuid, object] : domains_)
        object->emitChanges();
}

void Bus::budgetChanged() {
    manager_->budgetChanged();
}

void Bus::hypervisorChanged() {
    manager_->hypervisorChanged();
}

}  // namespace thermocline
