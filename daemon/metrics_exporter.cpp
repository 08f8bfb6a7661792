// SPDX-License-Identifier: Apache-2.0
#include "daemon/metrics_exporter.h"

#include <fmt/format.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include <functional>
#include <mutex>
#include <utility>

namespace thermocline {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Value = std::function<double(const Domain&)>;

struct Metric {
    const char* name;
    const char* help;
    MetricType type;
    Value value;
};

template <typename T>
Value figure(T manager::Status::*member, double scale = 1) {
    return [member, scale](const Domain& domain) {
        return static_cast<double>(domain.status().*member) * scale;
    };
}

/// Those of attached domains, one value each.
std::vector<Metric> metrics() {
    using S = manager::Status;
    constexpr auto gauge = MetricType::Gauge;
    constexpr auto counter = MetricType::Counter;
    return {
        {"memory_bytes", "Guest RAM under management.", gauge, figure(&S::memoryBytes)},
        {"resident_bytes", "Guest pages in the VM's RAM.", gauge, figure(&S::residentBytes)},
        {"staged_bytes", "Set aside, not yet compressed.", gauge, figure(&S::stagedBytes)},
        {"cold_bytes", "Guest bytes that live compressed in the store.", gauge, figure(&S::coldBytes)},
        {"frozen_bytes", "Guest bytes that live in the file tier.", gauge, figure(&S::frozenBytes)},
        {"store_bytes", "Memory that the store takes.", gauge, figure(&S::storeBytes)},
        {"file_bytes", "Disk space that the file tier takes.", gauge, figure(&S::fileBytes)},
        {"metadata_bytes", "Page map and index of the store.", gauge, figure(&S::metadataBytes)},
        {"used_bytes", "What the limit bounds.", gauge, figure(&S::usedBytes)},
        {"limit_bytes", "Hard limit in force; 0: none.", gauge, figure(&S::limitBytes)},
        {"limit_met", "1 while used is within the limit.", gauge, figure(&S::limitMet)},
        {"allotment_bytes", "What the host's budget leaves; 0: not bound.", gauge,
         [](const Domain& domain) { return static_cast<double>(domain.allotment()); }},
        {"priority", "Of its part of the host's budget.", gauge,
         [](const Domain& domain) { return static_cast<double>(domain.priority()); }},
        {"stall_ratio", "Share of the last second in which a fault was being served.", gauge,
         figure(&S::stallRatio)},
        {"stall_seconds_total", "Time in which a fault was being served.", counter,
         figure(&S::stallNanoseconds, 1e-9)},
        {"evicted_pages_total", "4 KiB pages made cold.", counter, figure(&S::evictedPages)},
        {"prefetched_pages_total", "4 KiB pages brought back unasked.", counter, figure(&S::prefetchedPages)},
        {"manager_rss_bytes", "Private memory of the manager process.", gauge, figure(&S::managerRssBytes)},
    };
}

MetricFamily family(const std::string& name, const char* help, MetricType type) {
    MetricFamily made;
    made.name = "thermocline_" + name;
    made.help = help;
    made.type = type;
    return made;
}

void add(MetricFamily& family, double value, std::vector<ClientMetric::Label> labels) {
    ClientMetric metric;
    metric.label = std::move(labels);
    (family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    family.metric.push_back(std::move(metric));
}

MetricFamily single(const std::string& name, const char* help, double value,
                    std::vector<ClientMetric::Label> labels = {}) {
    auto made = family(name, help, MetricType::Gauge);
    add(made, value, std::move(labels));
    return made;
}

std::vector<ClientMetric::Label> labelsOf(const Domain& domain) {
    return {{"domain", domain.name()}, {"uuid", domain.uuid()}};
}

MetricFamily faultsOf(const std::vector<const Domain*>& attached) {
    auto faults =
        family("domain_faults_total", "Page faults served, by what was faulted on.", MetricType::Counter);
    for (const auto* const domain : attached) {
        const auto& status = domain->status();
        const std::uint64_t known =
            status.stagedFaults + status.coldFaults + status.frozenFaults + status.zeroFaults;
        for (const auto& [kind, count] :
             {std::pair{"staged", status.stagedFaults}, std::pair{"cold", status.coldFaults},
              std::pair{"frozen", status.frozenFaults}, std::pair{"zero", status.zeroFaults},
              std::pair{"other", status.faults > known ? status.faults - known : 0}}) {
            auto labels = labelsOf(*domain);
            labels.push_back({"kind", kind});
            add(faults, static_cast<double>(count), std::move(labels));
        }
    }
    return faults;
}

}  // namespace

std::vector<MetricFamily> collectMetrics(Daemon& daemon) {
    std::vector<const Domain*> attached;
    auto state = family("domain_attached", "1 while the domain is attached.", MetricType::Gauge);
    for (const auto* const domain : daemon.domains()) {
        const bool is = domain->state() == Domain::State::attached;
        if (is) attached.push_back(domain);
        add(state, is ? 1 : 0, labelsOf(*domain));
    }
    const auto& arbiter = daemon.arbiter();
    std::vector<MetricFamily> all{
        single("info", "Version of the daemon.", 1, {{"version", THERMOCLINE_VERSION}}),
        single("hypervisor_connected", "1 while libvirtd answers.", daemon.hypervisorConnected() ? 1 : 0),
        single("host_budget_bytes", "What the budget has to give out now; 0: there is no budget.",
               static_cast<double>(arbiter.available())),
        single("host_keep_free_bytes", "Memory of the host that stays available.",
               static_cast<double>(arbiter.budget().keepFree)),
        state,
        faultsOf(attached)};
    for (const auto& metric : metrics()) {
        auto made = family(std::string("domain_") + metric.name, metric.help, metric.type);
        for (const auto* const domain : attached)
            add(made, metric.value(*domain), labelsOf(*domain));
        all.push_back(std::move(made));
    }
    return all;
}

/// What the web server's threads see.
class MetricsExporter::Snapshot final : public prometheus::Collectable {
  public:
    void set(std::vector<MetricFamily> families) {
        const std::lock_guard lock(mutex_);
        families_ = std::move(families);
    }
    [[nodiscard]] std::vector<MetricFamily> Collect() const override {
        const std::lock_guard lock(mutex_);
        return families_;
    }

  private:
    mutable std::mutex mutex_;
    std::vector<MetricFamily> families_;
};

MetricsExporter::MetricsExporter(Daemon& daemon, std::unique_ptr<prometheus::Exposer> exposer)
    : daemon_(daemon), snapshot_(std::make_shared<Snapshot>()), exposer_(std::move(exposer)) {
    snapshot_->set(collectMetrics(daemon_));
    exposer_->RegisterCollectable(snapshot_);
}

MetricsExporter::~MetricsExporter() = default;

Result<std::unique_ptr<MetricsExporter>> MetricsExporter::serve(EventLoop& loop, Daemon& daemon,
                                                                const MetricsAddress& address) {
    try {
        constexpr std::size_t threads = 1;
        auto exposer = std::make_unique<prometheus::Exposer>(address.text(), threads);
        std::unique_ptr<MetricsExporter> exporter(new MetricsExporter(daemon, std::move(exposer)));
        exporter->timer_ = loop.every(std::chrono::seconds(1), [self = exporter.get()] {
            self->snapshot_->set(collectMetrics(self->daemon_));
        });
        return exporter;
    } catch (const std::exception& error) {  // civetweb's
        return fail(
            ErrorCode::systemError,
            fmt::format("metrics cannot be served at {}: {}; is the port taken, or the unit not allowed to "
                        "use the network (docs/metrics.md)?",
                        address.text(), error.what()));
    }
}

}  // namespace thermocline
