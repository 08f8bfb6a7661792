// SPDX-License-Identifier: Apache-2.0
#pragma once

// Starts a thermocline-manager as the daemon does and talks to it, for tests and benchmarks; throws
// std::runtime_error where it cannot. Has a state directory of its own, gone with the object, as the manager
// is. Not thread-safe.

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/unique_fd.h"

namespace thermocline::memory::testing {

class ManagerChild {
  public:
    /// `toKill`: the executable that dies where THERMOCLINE_KILL_AT says (kill_points.h).
    explicit ManagerChild(bool toKill = false);
    ~ManagerChild();
    ManagerChild(const ManagerChild&) = delete;
    ManagerChild& operator=(const ManagerChild&) = delete;

    /// Runs the executable with these arguments to its end; its exit code (negative: the signal that ended
    /// it). `toKill` as of the constructor.
    static int run(const std::vector<std::string>& arguments, bool toKill = false);

    /// `thermocline-manager run` on process `vm`; returns its ready line, null where it died before that.
    nlohmann::json start(pid_t vm, const std::vector<std::string>& more = {});
    /// Connects to its socket.
    void connect();
    void send(const nlohmann::json& packet);
    /// The next packet; null when the connection has ended.
    nlohmann::json receive();
    /// Sends a request and returns the next packet.
    nlohmann::json call(const nlohmann::json& packet);
    /// The same, null where the manager has died meanwhile.
    nlohmann::json tryCall(const nlohmann::json& packet);
    /// Waits for its end; as run().
    int exitCode();
    void signal(int number) const;

    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] const std::string& directory() const { return directory_; }

  private:
    std::string executable_;
    std::string directory_;
    pid_t pid_ = -1;
    UniqueFd socket_;
};

}  // namespace thermocline::memory::testing
