// SPDX-License-Identifier: Apache-2.0

// thermocline-manager: the process that manages the memory of one VM. Started by thermoclined;
// docs/manager-protocol.md.

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/unique_fd.h"
#include "memory/guest_ram.h"
#include "memory/manager/control_server.h"
#include "memory/manager/privileges.h"
#include "memory/manager/protocol.h"
#include "memory/process_map.h"
#include "memory/sequence_point.h"
#include "memory/support.h"
#include "memory/vm_memory.h"
#ifdef THERMOCLINE_KILL_POINTS
#include "memory/testing/kill_points.h"
#endif

namespace thermocline::manager {
namespace {

struct Arguments {
    pid_t pid = 0;
    std::string stateDirectory;
    std::string name;
    int readyFd = -1;
    bool recover = false;
    std::string userfaultfdDevice = "/dev/userfaultfd";
    std::string mechanism;          // empty: the best that works here
    std::string fileTierDirectory;  // empty: no file tier
    std::uint64_t fileTierBytes = 0;
    std::uint64_t fileTierBytesPerDay = UINT64_MAX;
    double fileTierAge = 10;  // seconds
    memory::PolicySettings policy;
    std::vector<std::string> policyOptions;  // KEY=VALUE
};

/// Writes a file so that it is there whole or not at all, readable for its owner only.
Result<void> writePrivateFile(const std::string& path, const std::string& text) {
    const auto temporary = path + ".new";
    const UniqueFd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file.valid() || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
        ::rename(temporary.c_str(), path.c_str()) != 0)
        return failErrno(path);
    return {};
}

void removeStateFiles(const std::string& directory) {
    for (const char* name : {socketFileName, attachmentFileName})
        ::unlink((directory + "/" + name).c_str());
    memory::removeStoreFiles(directory);
}

std::optional<memory::FrozenTierOptions> fileTier(const Arguments& arguments, std::uint64_t ramBytes) {
    if (arguments.fileTierDirectory.empty()) return std::nullopt;
    memory::FrozenTierOptions tier;
    tier.store.directory = arguments.fileTierDirectory;
    tier.store.maxFileBytes = arguments.fileTierBytes != 0 ? arguments.fileTierBytes : ramBytes;
    tier.store.maxBytesPerDay = arguments.fileTierBytesPerDay;
    tier.age = std::chrono::milliseconds(static_cast<std::int64_t>(arguments.fileTierAge * 1000));
    return tier;
}

memory::PolicySettings policy(const Arguments& arguments) {
    auto settings = arguments.policy;
    for (const auto& option : arguments.policyOptions) {
        const auto equals = std::min(option.find('='), option.size());
        settings.options.emplace_back(option.substr(0, equals),
                                      option.substr(std::min(equals + 1, option.size())));
    }
    return settings;
}

bool takesShared(const Arguments& arguments) {
    return arguments.mechanism == memory::mechanismName(memory::Mechanism::unmap);
}

/// For private memory.
Result<memory::Mechanism> theMechanism(const Arguments& arguments) {
    if (!arguments.mechanism.empty() && !takesShared(arguments))
        return *memory::mechanismFromName(arguments.mechanism);
    const auto host = memory::probeHost(arguments.userfaultfdDevice);
    if (host.mechanism) return *host.mechanism;
    for (const auto& finding : host.findings)
        if (!finding.ok)
            return fail(ErrorCode::notSupported,
                        fmt::format("{}: {}; {}", finding.name, finding.detail, finding.fix));
    return fail(ErrorCode::notSupported, "this host cannot overcommit");
}

/// Undoes a fresh attachment: nothing was staged yet.
void undo(std::unique_ptr<memory::VmMemory> vm) {
    const auto footprint = vm->footprint();
    if (const auto detached = vm->detach(); !detached)
        spdlog::error("undoing the attach: {}", detached.error().message);
    vm.reset();
    if (const auto cured = memory::cure(footprint); !cured)
        spdlog::error("undoing the attach: {}", cured.error().message);
}

Result<void> runManager(const Arguments& arguments, const std::function<void(const nlohmann::json&)>& ready) {
    const auto mechanism = theMechanism(arguments);
    if (!mechanism) return tl::unexpected(mechanism.error());
    const auto ram = memory::discoverGuestRam(
        arguments.pid, *mechanism,
        takesShared(arguments) ? memory::SharedMemory::take : memory::SharedMemory::refuse);
    if (!ram) return tl::unexpected(ram.error());
    auto server = ControlServer::listen(arguments.stateDirectory + "/" + socketFileName);
    if (!server) return tl::unexpected(server.error());
    auto attached = memory::VmMemory::attach(
        {arguments.pid, ram->ranges, arguments.stateDirectory, [&server] { (*server)->processEnded(); },
         arguments.userfaultfdDevice, ram->mechanism, fileTier(arguments, ram->bytes()), policy(arguments)});
    if (!attached) return tl::unexpected(attached.error());
    auto vm = std::move(*attached);
    const auto recorded = writePrivateFile(arguments.stateDirectory + "/" + attachmentFileName,
                                           nlohmann::json(vm->footprint()).dump(2) + "\n");
    if (!recorded) {
        undo(std::move(vm));
        return recorded;
    }
    memory::sequencePoint("attachment-recorded");
    vm->footprintRecorded();
    // Before any other thread exists: capabilities and seccomp filters belong to threads.
    if (const auto dropped = dropPrivileges(); !dropped) {
        spdlog::error("{}", dropped.error().message);
        undo(std::move(vm));
        return dropped;
    }
    vm->start();
    ready({{"ok", true}, {"status", vm->status()}});
    spdlog::info("{}: {} bytes of guest RAM attached, process {} stopped for {} us", arguments.name,
                 ram->bytes(), arguments.pid, vm->footprint().pauseMicroseconds);
    (*server)->run(*vm);
    spdlog::info("{}: {}", arguments.name, vm->status().state);
    return {};
}

/// Goes on where another manager died. On error all is as that one left it.
Result<void> recoverManager(const Arguments& arguments,
                            const std::function<void(const nlohmann::json&)>& ready) {
    const auto path = arguments.stateDirectory + "/" + attachmentFileName;
    if (!std::filesystem::exists(path))
        return fail(ErrorCode::notAttached, "no manager got so far as to write " + path);
    const auto footprint = memory::readFootprint(path);
    if (!footprint) return tl::unexpected(footprint.error());
    if (footprint->pid != arguments.pid)
        return fail(
            ErrorCode::invalidArgument,
            fmt::format("{} is about process {}, not {}", attachmentFileName, footprint->pid, arguments.pid));
    std::uint64_t ramBytes = 0;
    for (const auto& range : footprint->guestRam)
        ramBytes += range.bytes;
    std::unique_ptr<ControlServer> server;
    memory::VmMemory::Options options;
    options.pid = arguments.pid;
    options.stateDirectory = arguments.stateDirectory;
    options.processEnded = [&server] { server->processEnded(); };
    options.frozen = fileTier(arguments, ramBytes);
    options.policy = policy(arguments);
    auto vm = memory::VmMemory::recover(std::move(options), *footprint);
    if (!vm) return tl::unexpected(vm.error());
    // Nobody listens there: the other manager is dead, or we had not got so far.
    const auto socket = arguments.stateDirectory + "/" + socketFileName;
    ::unlink(socket.c_str());
    auto listening = ControlServer::listen(socket);
    if (!listening) return tl::unexpected(listening.error());
    server = std::move(*listening);
    THERMOCLINE_TRY(dropPrivileges());
    (*vm)->start();
    ready({{"ok", true}, {"status", (*vm)->status()}});
    spdlog::info("{}: process {} is managed again", arguments.name, arguments.pid);
    server->run(**vm);
    spdlog::info("{}: {}", arguments.name, (*vm)->status().state);
    vm->reset();
    return {};
}

int run(const Arguments& arguments) {
    // The daemon that started us may end before us: neither its terminal nor a closed pipe may end the VM's
    // manager.
    ::setsid();
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGHUP, SIG_IGN);
    UniqueFd readyFd(arguments.readyFd);
    const auto ready = [&](const nlohmann::json& packet) {
        const auto line = packet.dump() + "\n";
        if (readyFd.valid()) (void)!::write(readyFd.get(), line.data(), line.size());
        readyFd.reset();
    };
    const auto result = arguments.recover ? recoverManager(arguments, ready) : runManager(arguments, ready);
    if (result) return 0;
    if (!arguments.recover) removeStateFiles(arguments.stateDirectory);
    ready({{"ok", false}, {"error", errorToJson(result.error())}});
    spdlog::error("{}: {}", arguments.name, result.error().message);
    return 1;
}

int cure(const Arguments& arguments) {
    const auto path = arguments.stateDirectory + "/" + attachmentFileName;
    if (!std::filesystem::exists(path)) {  // it died while it attached
        if (const auto undone = memory::undoUnfinished(arguments.pid);
            !undone && undone.error().code != ErrorCode::processGone) {
            spdlog::error("{}", undone.error().message);
            return 1;
        }
        removeStateFiles(arguments.stateDirectory);
        return 0;
    }
    const auto footprint = memory::readFootprint(path);
    if (!footprint) {
        spdlog::error("{}", footprint.error().message);
        return 1;
    }
    if (footprint->pid != arguments.pid) {
        spdlog::error("{} is about process {}, not {}", path, footprint->pid, arguments.pid);
        return 1;
    }
    // A manager that died of something before it took a page out has told nobody to leave. Where another end
    // was found, that is what cure() says.
    memory::VmMemory::Options options;
    options.pid = arguments.pid;
    options.stateDirectory = arguments.stateDirectory;
    (void)memory::VmMemory::dismiss(std::move(options), *footprint);
    const auto cured = memory::cure(*footprint);
    if (!cured && cured.error().code != ErrorCode::processGone &&
        cured.error().code != ErrorCode::notAttached) {
        spdlog::error("{}", cured.error().message);
        return 1;
    }
    removeStateFiles(arguments.stateDirectory);
    return 0;
}

int probe(const Arguments& arguments) {
    if (!arguments.stateDirectory.empty()) {
        const auto understood =
            memory::EventJournal::check(arguments.stateDirectory + "/" + memory::eventJournalFileName);
        if (!understood) spdlog::error("{}", understood.error().message);
        return understood ? 0 : 1;
    }
    nlohmann::json answer;
    if (arguments.pid == 0) {
        const auto host = memory::probeHost(arguments.userfaultfdDevice);
        answer = {{"usable", host.usable},
                  {"mechanism", host.mechanism ? mechanismName(*host.mechanism) : "none"},
                  {"findings", nlohmann::json::array()}};
        for (const auto& finding : host.findings)
            answer["findings"].push_back({{"name", finding.name},
                                          {"ok", finding.ok},
                                          {"detail", finding.detail},
                                          {"fix", finding.fix}});
    } else {
        const auto guest = memory::probeGuest(arguments.pid, memory::mechanismFromName(arguments.mechanism),
                                              arguments.userfaultfdDevice);
        if (!guest) {
            answer = {{"usable", false}, {"error", errorToJson(guest.error())}};
        } else {
            answer = {{"usable", guest->usable},
                      {"mechanism", guest->mechanism},
                      {"memory_bytes", guest->memoryBytes},
                      {"reason", guest->reason},
                      {"fix", guest->fix}};
        }
    }
    fmt::print("{}\n", answer.dump(2));
    return answer["usable"].get<bool>() ? 0 : 1;
}

}  // namespace
}  // namespace thermocline::manager

#if defined(__SANITIZE_ADDRESS__)
// The leak check traces its own process at exit, which a manager has given up the right to do. Leaks are
// looked for in the tests that run the engine in their own process.
extern "C" const char* __asan_default_options() {
    return "detect_leaks=0";
}
#endif

int main(int argc, char** argv) {
    using namespace thermocline::manager;
#ifdef THERMOCLINE_KILL_POINTS
    // Who is to be killed, and who clears up after it, are told apart.
    thermocline::memory::testing::killWhereToldTo(
        argc > 1 && std::string_view(argv[1]) == "run" ? "THERMOCLINE_KILL_AT" : "THERMOCLINE_KILL_CURE_AT");
#endif
    spdlog::set_default_logger(spdlog::stderr_color_mt("thermocline-manager"));
    Arguments arguments;
    CLI::App app("Manages the memory of one running virtual machine; started by thermoclined.");
    app.set_version_flag("--version", THERMOCLINE_VERSION);
    app.require_subcommand(1);
    app.footer("Example:\n  thermocline-manager probe --pid $(cat /run/libvirt/qemu/vm1.pid)");
    auto* runCommand =
        app.add_subcommand("run", "Attach to a process and manage its guest's RAM until it ends");
    auto* cureCommand = app.add_subcommand("cure", "Remove what a detached manager left in the process");
    auto* probeCommand =
        app.add_subcommand("probe", "Tell whether this host, or a process, can be overcommitted");
    for (auto* command : {runCommand, cureCommand}) {
        command->add_option("--pid", arguments.pid, "Process of the VM")
            ->required()
            ->check(CLI::PositiveNumber);
        command->add_option("--state-dir", arguments.stateDirectory, "Private directory of this VM, on tmpfs")
            ->required()
            ->check(CLI::ExistingDirectory);
    }
    runCommand->add_option("--name", arguments.name, "Name of the VM, for the log")->required();
    runCommand->add_option("--ready-fd", arguments.readyFd,
                           "Where to write one line of JSON once attached, or not");
    runCommand->add_flag(
        "--recover", arguments.recover,
        "Do not attach: go on where a manager died, with what it left in --state-dir and in the "
        "process");
    runCommand->add_option("--file-tier-dir", arguments.fileTierDirectory,
                           "Directory on a disk for what is cold for long, encrypted");
    runCommand->add_option("--file-tier-max", arguments.fileTierBytes,
                           "Bytes of disk that it may take (default: as many as the guest's RAM)");
    runCommand->add_option("--file-tier-per-day", arguments.fileTierBytesPerDay,
                           "Bytes that may be written there in any 24 hours (default: no bound)");
    runCommand
        ->add_option("--file-tier-age", arguments.fileTierAge,
                     "Seconds without use after which pages go there")
        ->check(CLI::Range(0.0, 86400.0))
        ->capture_default_str();
    runCommand->add_option("--policy", arguments.policy.file,
                           "Shared object that decides which memory goes first; where it cannot be used the "
                           "built-in policy does");
    runCommand->add_option("--policy-option", arguments.policyOptions, "KEY=VALUE, for the policy")
        ->allow_extra_args(false);
    runCommand->add_option("--policy-dir", arguments.policy.directory, "Where policies have to be")
        ->capture_default_str();
    probeCommand->add_option("--pid", arguments.pid, "Process of the VM")->check(CLI::PositiveNumber);
    probeCommand
        ->add_option("--state-dir", arguments.stateDirectory,
                     "Tell instead whether `run --recover` understands what another manager keeps there")
        ->check(CLI::ExistingDirectory);
    for (auto* command : {runCommand, probeCommand})
        command
            ->add_option("--userfaultfd-device", arguments.userfaultfdDevice,
                         "Device to get userfaultfds from")
            ->capture_default_str();
    for (auto* command : {runCommand, probeCommand})
        command
            ->add_option(
                "--mechanism", arguments.mechanism,
                "How pages are taken out of guest RAM (default: the best that works here for private "
                "memory; unmap: the same, and shared memory is taken, too)")
            ->check(CLI::IsMember({"move", "copy", "unmap"}));
    CLI11_PARSE(app, argc, argv);
    if (*runCommand) {
        const int code = run(arguments);
        if (arguments.policy.file.empty()) return code;
        // A thread that a policy left behind may hold what an orderly exit waits for (the loader's lock), or
        // use what it destroys.
        spdlog::shutdown();
        std::_Exit(code);
    }
    if (*cureCommand) return cure(arguments);
    return probe(arguments);
}
