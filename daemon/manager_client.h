// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/error.h"
#include "common/unique_fd.h"
#include "daemon/event_loop.h"
#include "memory/activity.h"
#include "memory/heat_map.h"
#include "memory/manager/protocol.h"

namespace thermocline {

/// The daemon's end of one manager's control socket (docs/manager-protocol.md): requests
/// that are answered later, and the events of a subscription. Belongs to the loop's
/// thread. A callback may destroy the client. Replies that are still owed when the
/// connection ends come as processGone, before onClosed; none come after destruction.
class ManagerClient {
  public:
    class Listener {
      public:
        virtual ~Listener() = default;
        /// Once a second after subscribe().
        virtual void onStatus(const manager::Status& status) = 0;
        /// The VM's process has ended; the manager will end by itself.
        virtual void onGone() = 0;
        /// The connection ended: after onGone or a detach as it should, else the manager crashed.
        virtual void onClosed() = 0;
    };
    using StatusReply = std::function<void(Result<manager::Status>)>;
    using HeatReply = std::function<void(Result<memory::HeatMap>)>;
    using Reply = std::function<void(Result<nlohmann::json>)>;

    /// Errors: processGone where nobody listens on the socket (any more), systemError.
    static Result<std::unique_ptr<ManagerClient>> connect(EventLoop& loop,
                                                          const std::filesystem::path& socket,
                                                          Listener& listener);
    ManagerClient(const ManagerClient&) = delete;
    ManagerClient& operator=(const ManagerClient&) = delete;
    ~ManagerClient();

    /// The manager's process, as the kernel says.
    [[nodiscard]] pid_t managerPid() const { return managerPid_; }

    void status(StatusReply reply);
    /// 0 = none.
    void setLimit(std::uint64_t bytes, StatusReply reply);
    /// maxStall 0 = off.
    void setProactive(double maxStall, std::uint64_t minResidentBytes, StatusReply reply);
    void setActivity(memory::Activity activity, StatusReply reply);
    /// Answered when the manager is about to end, and another one can go on (`run --recover`).
    void handOver(StatusReply reply);
    /// Answered at once; Status::fileTier tells when it is done.
    void closeFileTier(StatusReply reply);
    void heat(std::uint32_t pieces, HeatReply reply);
    /// May take as long as bringing every page back takes.
    void detach(StatusReply reply);
    void subscribe(std::function<void(Result<void>)> reply);
    /// Handles what has arrived by now, without waiting for the loop.
    void drain() { receive(); }

  private:
    struct Pending {
        Reply reply;
        EventLoop::Source timeout;
    };
    ManagerClient(EventLoop& loop, UniqueFd socket, pid_t managerPid, Listener& listener);
    void request(const char* method, nlohmann::json params, std::optional<std::chrono::seconds> timeout,
                 Reply reply);
    void receive();
    void handlePacket(const std::string& packet);
    void answer(std::uint64_t id, Result<nlohmann::json> result);
    void close();

    EventLoop& loop_;
    UniqueFd socket_;
    pid_t managerPid_;
    Listener& listener_;
    EventLoop::Source source_;
    std::uint64_t nextId_ = 1;
    std::map<std::uint64_t, Pending> pending_;
    std::shared_ptr<bool> alive_ =
        std::make_shared<bool>(true);  ///< false once destroyed, for callbacks on the stack
};

}  // namespace thermocline
