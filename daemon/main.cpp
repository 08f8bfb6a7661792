// SPDX-License-Identifier: Apache-2.0
// thermoclined. Everything is opened, or refused with one
// clear line, before anything is touched; then the loop runs.
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include <exception>

#include "daemon/bus.h"
#include "daemon/daemon.h"
#include "daemon/event_loop.h"
#include "daemon/libvirt_hypervisor.h"
#include "daemon/logging.h"
#include "daemon/metrics_exporter.h"
#include "daemon/options.h"
#include "daemon/runtime_directory.h"
#include "db/database.h"

namespace thermocline {
namespace {

constexpr const char* databaseName = "thermocline.db";

ExitCode report(const Error& error, ExitCode code) {
    spdlog::critical("{}", error.message);
    return code;
}

Result<db::Database> openDatabase(const std::filesystem::path& directory) {
    std::error_code error;
    std::filesystem::create_directories(directory.parent_path(), error);
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
        return failErrno("make directory " + directory.string(), errno, ErrorCode::databaseError);
    return db::Database::open(directory / databaseName);
}

void blockSignals() {
    // Before any thread starts, so that all inherit it and the loop alone sees them.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
}

ExitCode run(const Options& options) {
    EventLoop loop;
    auto runtime = RuntimeDirectory::open(std::filesystem::absolute(options.runtimeDirectory));
    if (!runtime)
        return report(runtime.error(), runtime.error().code == ErrorCode::alreadyRunning
                                           ? ExitCode::alreadyRunning
                                           : ExitCode::runtimeDirectory);
    auto database = openDatabase(std::filesystem::absolute(options.stateDirectory));
    if (!database) return report(database.error(), ExitCode::database);
    auto bus = Bus::connect(loop, options.bus);
    if (!bus) return report(bus.error(), ExitCode::busUnavailable);

    const QemuProcesses processes;
    LibvirtHypervisor hypervisor(loop, options.connect);
    Daemon::Parts parts{loop, hypervisor, *database, *runtime, processes, options.manager};
    parts.fileTier = options.fileTier;
    if (!parts.fileTier.directory.empty())
        parts.fileTier.directory = std::filesystem::absolute(parts.fileTier.directory);
    parts.policy = options.policy;
    parts.budget = options.budget;
    parts.configDirectory = std::filesystem::absolute(options.configDirectory);
    parts.mechanism = memory::mechanismFromName(options.mechanism);
    parts.probeGuest = [mechanism = parts.mechanism](pid_t pid) {
        return memory::probeGuest(pid, mechanism);
    };
    Daemon daemon(std::move(parts));
    std::unique_ptr<MetricsExporter> metrics;
    if (options.metrics) {
        auto serving = MetricsExporter::serve(loop, daemon, *options.metrics);
        if (!serving) return report(serving.error(), ExitCode::failure);
        metrics = std::move(*serving);
        spdlog::info("metrics at http://{}/metrics{}", options.metrics->text(),
                     options.metrics->loopback() ? "" : "; whoever can reach it reads them");
    }
    ExitCode code = ExitCode::ok;
    const auto published = (*bus)->publish(daemon, options.connect, [&] {
        code = ExitCode::busUnavailable;
        loop.stop();
    });
    if (!published)
        return report(published.error(), published.error().code == ErrorCode::alreadyRunning
                                             ? ExitCode::alreadyRunning
                                             : ExitCode::busUnavailable);
    const auto finish = [&] { daemon.finish([&] { loop.stop(); }); };
    const auto onTerm = loop.onSignal(SIGTERM, finish);
    const auto onInt = loop.onSignal(SIGINT, finish);
    // It has logged what is wrong.
    const auto onHangUp = loop.onSignal(SIGHUP, [&] { (void)daemon.reloadConfiguration(); });
    daemon.start(**bus);
    spdlog::info("thermoclined {} runs; bus {}, libvirt {}, managers {}", THERMOCLINE_VERSION, options.bus,
                 options.connect, options.manager.string());
    sd_notify(0, "READY=1");
    loop.run();
    sd_notify(0, "STOPPING=1");
    spdlog::info("ending; attached domains stay attached");
    // Objects leave the bus before the domains that they show.
    bus->reset();
    return code;
}

}  // namespace
}  // namespace thermocline

int main(int argc, char** argv) {
    using namespace thermocline;
    const auto options = parseOptions(argc, argv);
    if (const auto* const code = std::get_if<ExitCode>(&options)) return static_cast<int>(*code);
    blockSignals();
    if (const auto logging = setUpLogging(std::get<Options>(options).logLevel); !logging) {
        fmt::print(stderr, "thermoclined: {}\n", logging.error().message);
        return static_cast<int>(ExitCode::usage);
    }
    try {
        return static_cast<int>(run(std::get<Options>(options)));
    } catch (const std::exception& error) {
        spdlog::critical("{}", error.what());
        return static_cast<int>(ExitCode::failure);
    }
}
