// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "common/error.h"
#include "daemon/daemon.h"
#include "daemon/event_loop.h"
#include "daemon/metrics_address.h"

namespace prometheus {
struct MetricFamily;
class Exposer;
}  // namespace prometheus

namespace thermocline {

/// The figures of all domains and of the host, by the names of docs/metrics.md. Belongs to the loop's thread.
std::vector<prometheus::MetricFamily> collectMetrics(Daemon& daemon);

/// Serves them to Prometheus at http://ADDRESS/metrics, as they were when the last second began. The web
/// server's threads see copies only. Belongs to the loop's thread. REQUIRES: destroyed before the daemon.
class MetricsExporter {
  public:
    /// Errors: systemError (the address is taken, or not this host's).
    static Result<std::unique_ptr<MetricsExporter>> serve(EventLoop& loop, Daemon& daemon,
                                                          const MetricsAddress& address);
    ~MetricsExporter();
    MetricsExporter(const MetricsExporter&) = delete;
    MetricsExporter& operator=(const MetricsExporter&) = delete;

  private:
    class Snapshot;
    MetricsExporter(Daemon& daemon, std::unique_ptr<prometheus::Exposer> exposer);

    Daemon& daemon_;
    std::shared_ptr<Snapshot> snapshot_;
    EventLoop::Source timer_;
    std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace thermocline
