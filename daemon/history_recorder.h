// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "daemon/event_loop.h"
#include "db/history_store.h"
#include "memory/manager/protocol.h"

namespace thermocline {

/// Writes one history sample a second for each attached domain, and keeps the
/// store rolled up. A database that fails costs history, never an attached VM: the
/// first failure is logged, and the next success. Belongs to the loop's thread.
class HistoryRecorder {
  public:
    struct Figures {
        std::string uuid;
        manager::Status status;
    };
    using Source = std::function<std::vector<Figures>()>;

    /// `figures` lists the attached domains. Nothing happens before start().
    HistoryRecorder(EventLoop& loop, db::HistoryStore& store, Source figures,
                    db::Clock clock = db::systemNow);
    void start();
    /// One second's work; called by a timer after start().
    void tick();

  private:
    struct Last {
        std::chrono::sys_seconds time{};
        manager::Status status;
    };
    void report(const Result<void>& written);

    EventLoop& loop_;
    db::HistoryStore& store_;
    Source figures_;
    db::Clock clock_;
    EventLoop::Source timer_;
    std::map<std::string, Last> last_;
    std::chrono::sys_seconds lastMaintenance_{};
    bool failing_ = false;
};

}  // namespace thermocline
