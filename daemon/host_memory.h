// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

#include "common/error.h"
#include "common/unique_fd.h"
#include "daemon/event_loop.h"

namespace thermocline {

// How much memory the host has, and whether it waits for some.

/// MemTotal and MemAvailable, in bytes.
struct HostMemory {
    std::uint64_t total = 0;
    std::uint64_t available = 0;
};

/// Of a text as in /proc/meminfo. systemError where it does not have them. Any thread.
Result<HostMemory> parseHostMemory(std::string_view meminfo);
/// This host's. systemError. Any thread.
Result<HostMemory> readHostMemory();

/// Tells when processes of the host have waited for memory (pressure stall information): 100 ms of a second
/// or more, by at least one of them. Belongs to the loop's thread.
class HostPressure {
  public:
    static constexpr const char* file = "/proc/pressure/memory";

    /// Calls `pressed` within a second, and no more than once a second while it lasts. By a trigger of the
    /// kernel that is poll()ed; where the kernel does not let us have one (that takes CAP_SYS_RESOURCE), by
    /// looking twice a second, as where it may not. systemError where there is no such file: a kernel without
    /// PSI.
    static Result<std::unique_ptr<HostPressure>> watch(EventLoop& loop, EventLoop::Task pressed,
                                                       const std::filesystem::path& path = file,
                                                       bool mayTrigger = true);
    /// Whether it is the kernel that tells.
    [[nodiscard]] bool triggered() const { return source_.active(); }

  private:
    HostPressure(EventLoop::Task pressed, UniqueFd pressure)
        : pressed_(std::move(pressed)), pressure_(std::move(pressure)) {}
    [[nodiscard]] Result<std::uint64_t> waitedMicroseconds() const;
    void look();

    EventLoop::Task pressed_;
    UniqueFd pressure_;
    EventLoop::Source source_;
    EventLoop::Source timer_;
    std::uint64_t waited_ = 0;
};

}  // namespace thermocline
