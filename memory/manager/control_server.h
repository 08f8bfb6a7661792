// SPDX-License-Identifier: Apache-2.0
#pragma once

// Answers the daemon on the manager's socket (docs/manager-protocol.md). run() is the manager's main loop, on
// one thread; a detach runs on a thread of its own meanwhile, since it may take long.

#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/error.h"
#include "common/unique_fd.h"
#include "memory/manager/protocol.h"
#include "memory/vm_memory.h"

namespace thermocline::manager {

class ControlServer {
  public:
    /// Makes and binds the socket `path` (mode 0600). Error: systemError.
    static Result<std::unique_ptr<ControlServer>> listen(const std::string& path);
    ~ControlServer();
    ControlServer(const ControlServer&) = delete;
    ControlServer& operator=(const ControlServer&) = delete;

    /// Any thread: the VM's process has ended. Ends run().
    void processEnded();

    /// Serves until the VM has ended or been detached. SIGTERM and SIGINT detach, too.
    void run(memory::VmMemory& vm);

  private:
    struct Client {
        UniqueFd socket;
        bool subscribed = false;
    };
    ControlServer(UniqueFd socket, UniqueFd events, UniqueFd ticks, UniqueFd signals);
    void accept();
    /// False when the client has gone.
    bool receive(int client);
    void handle(int client, const nlohmann::json& request);
    static Result<std::optional<memory::ProactivePolicy::Settings>> proactiveSettings(
        const nlohmann::json& request);
    void startDetach(memory::VmMemory& vm);
    void finishDetach();
    void publish();
    void send(int client, const nlohmann::json& packet);
    [[nodiscard]] Status status() const;

    UniqueFd listener_;
    UniqueFd events_;  // eventfd: a detach has ended, or the process has
    UniqueFd ticks_;
    UniqueFd signals_;
    std::map<int, Client> clients_;
    memory::VmMemory* vm_ = nullptr;
    std::thread detacher_;
    std::optional<Result<void>> detachResult_;  // written by detacher_ before it signals events_
    std::vector<std::pair<int, nlohmann::json>> detachCallers_;  // client and request id
    std::atomic<bool> ended_{false};
    bool detaching_ = false;
    bool done_ = false;
};

}  // namespace thermocline::manager
