// SPDX-License-Identifier: Apache-2.0
#include "memory/manager/control_server.h"

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

#include "memory/process_map.h"

namespace thermocline::manager {

Result<std::unique_ptr<ControlServer>> ControlServer::listen(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return fail(ErrorCode::invalidArgument,
                    fmt::format("{} is too long for a socket's name ({} characters at most)", path,
                                sizeof address.sun_path - 1));
    std::memcpy(address.sun_path, path.c_str(), path.size());
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const auto mask = ::umask(0177);
    const bool bound = socket.valid() &&
                       ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    const int error = errno;
    ::umask(mask);
    if (!bound || ::listen(socket.get(), 8) != 0) return failErrno(path, bound ? errno : error);

    UniqueFd events(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    UniqueFd ticks(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    const itimerspec everySecond{{1, 0}, {1, 0}};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!events.valid() || !ticks.valid() || !signals.valid() ||
        ::timerfd_settime(ticks.get(), 0, &everySecond, nullptr) != 0)
        return failErrno("preparing the manager's loop");
    return std::unique_ptr<ControlServer>(
        new ControlServer(std::move(socket), std::move(events), std::move(ticks), std::move(signals)));
}

ControlServer::ControlServer(UniqueFd socket, UniqueFd events, UniqueFd ticks, UniqueFd signals)
    : listener_(std::move(socket)),
      events_(std::move(events)),
      ticks_(std::move(ticks)),
      signals_(std::move(signals)) {}

/// {"max_stall": share of time, 0 = no such policy; "min_resident_bytes": N, 0 where it is not given}.
Result<std::optional<memory::ProactivePolicy::Settings>> ControlServer::proactiveSettings(
    const nlohmann::json& request) {
    const auto params = request.value("params", nlohmann::json::object());
    if (!params.is_object() || !params.contains("max_stall") || !params["max_stall"].is_number() ||
        (params.contains("min_resident_bytes") && !params["min_resident_bytes"].is_number_unsigned()))
        return fail(ErrorCode::invalidArgument,
                    "set-proactive takes {\"max_stall\": share of time, 0 = off, \"min_resident_bytes\": N}");
    if (params["max_stall"] == 0) return std::nullopt;
    return memory::ProactivePolicy::Settings{params["max_stall"].get<double>(),
                                             params.value("min_resident_bytes", std::uint64_t{0})};
}

ControlServer::~ControlServer() {
    if (detacher_.joinable()) detacher_.join();
}

void ControlServer::processEnded() {
    ended_ = true;
    const std::uint64_t one = 1;
    (void)!::write(events_.get(), &one, sizeof one);
}

void ControlServer::run(memory::VmMemory& vm) {
    vm_ = &vm;
    while (!done_) {
        std::vector<pollfd> polled{{listener_.get(), POLLIN, 0},
                                   {events_.get(), POLLIN, 0},
                                   {ticks_.get(), POLLIN, 0},
                                   {signals_.get(), POLLIN, 0}};
        for (const auto& [fd, client] : clients_)
            polled.push_back({fd, POLLIN, 0});
        if (::poll(polled.data(), polled.size(), -1) < 0) continue;
        const auto drained = [&](std::size_t index, auto& buffer) {
            return polled[index].revents != 0 && ::read(polled[index].fd, &buffer, sizeof buffer) > 0;
        };
        std::uint64_t count = 0;
        signalfd_siginfo signal{};
        if (polled[0].revents != 0) accept();
        if (drained(1, count)) finishDetach();
        if (ended_ && !done_) {
            for (auto& [fd, client] : clients_)
                if (client.subscribed) send(fd, {{"event", "gone"}});
            done_ = true;
        }
        if (drained(2, count)) publish();
        if (drained(3, signal) && !detaching_) {
            spdlog::info("signal {}: detaching", signal.ssi_signo);
            startDetach(vm);
        }
        for (std::size_t i = 4; i < polled.size() && !done_; ++i)
            if (polled[i].revents != 0 && !receive(polled[i].fd)) clients_.erase(polled[i].fd);
    }
}

void ControlServer::accept() {
    UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client.valid()) return;
    const int fd = client.get();
    clients_.insert_or_assign(fd, Client{std::move(client), false});
}

bool ControlServer::receive(int client) {
    std::vector<char> packet(maxPacketBytes);
    const auto n = ::recv(client, packet.data(), packet.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (n <= 0) return false;
    const auto request = nlohmann::json::parse(packet.data(), packet.data() + n, nullptr, false);
    if (!request.is_object() || !request.contains("id") || request["id"].is_structured() ||
        !request.contains("method") || !request["method"].is_string()) {
        send(client,
             {{"id", nullptr},
              {"error",
               errorToJson(
                   {ErrorCode::invalidArgument,
                    "a request is a JSON object with an \"id\" (a number or a string) and a \"method\""})}});
        return true;
    }
    handle(client, request);
    return true;
}

void ControlServer::handle(int client, const nlohmann::json& request) {
    const auto method = request["method"].get<std::string>();
    const auto& id = request["id"];
    const auto answer = [&](const Result<void>& result) {
        send(client, result ? nlohmann::json{{"id", id}, {"result", status()}}
                            : nlohmann::json{{"id", id}, {"error", errorToJson(result.error())}});
    };
    if (method == "status") {
        answer({});
    } else if (method == "set-limit") {
        const auto params = request.find("params");
        if (params == request.end() || !params->is_object() || !params->contains("limit_bytes") ||
            !(*params)["limit_bytes"].is_number_unsigned())
            answer(fail(ErrorCode::invalidLimit,
                        "set-limit takes {\"limit_bytes\": N}, a number of bytes; 0 = none"));
        else if (detaching_)
            answer(fail(ErrorCode::busy, "the VM is being detached"));
        else
            answer(vm_->setLimit((*params)["limit_bytes"].get<std::uint64_t>()));
    } else if (method == "set-proactive") {
        if (detaching_) return answer(fail(ErrorCode::busy, "the VM is being detached"));
        const auto settings = proactiveSettings(request);
        answer(settings ? vm_->setProactive(*settings) : tl::unexpected(settings.error()));
    } else if (method == "set-activity") {
        if (detaching_) return answer(fail(ErrorCode::busy, "the VM is being detached"));
        const auto params = request.value("params", nlohmann::json::object());
        const auto name = params.is_object() ? params.find("activity") : params.end();
        const auto activity = name != params.end() && name->is_string()
                                  ? memory::activityFromName(name->get<std::string>())
                                  : std::nullopt;
        if (!activity)
            return answer(
                fail(ErrorCode::invalidArgument, fmt::format("set-activity takes {{\"activity\": one of {}}}",
                                                             fmt::join(memory::activityNames, ", "))));
        answer(vm_->setActivity(*activity));
    } else if (method == "hand-over") {
        if (detaching_) return answer(fail(ErrorCode::busy, "the VM is being detached"));
        const auto ready = vm_->handOver();
        answer(ready);
        done_ = ready.has_value();
    } else if (method == "close-file-tier") {
        if (detaching_) return answer(fail(ErrorCode::busy, "the VM is being detached"));
        answer(vm_->closeFileTier());
    } else if (method == "heat") {
        const auto params = request.value("params", nlohmann::json::object());
        const auto pieces = params.is_object() ? params.find("pieces") : params.end();
        if (pieces == params.end() || !pieces->is_number_unsigned() || *pieces == 0 ||
            *pieces > memory::HeatMap::mostPieces)
            return answer(
                fail(ErrorCode::invalidArgument,
                     fmt::format("heat takes {{\"pieces\": N}}, 1 to {}", memory::HeatMap::mostPieces)));
        send(client, {{"id", id}, {"result", vm_->heat(pieces->get<std::size_t>())}});
    } else if (method == "detach") {
        if (detaching_) return answer(fail(ErrorCode::busy, "the VM is being detached already"));
        detachCallers_.emplace_back(client, id);
        startDetach(*vm_);
    } else if (method == "subscribe") {
        clients_[client].subscribed = true;
        send(client, {{"id", id}, {"result", nlohmann::json::object()}});
    } else {
        answer(fail(ErrorCode::invalidArgument,
                    fmt::format("unknown method \"{}\"; there are status, set-limit, set-proactive, "
                                "set-activity, close-file-tier, heat, hand-over, detach and subscribe",
                                method)));
    }
}

void ControlServer::startDetach(memory::VmMemory& vm) {
    detaching_ = true;
    detacher_ = std::thread([this, &vm] {
        detachResult_ = vm.detach();
        const std::uint64_t one = 1;
        (void)!::write(events_.get(), &one, sizeof one);
    });
}

void ControlServer::finishDetach() {
    // The event may be the process's end alone; then the detach fails, too, and signals once more.
    if (!detaching_ || (ended_ && !detachResult_)) return;
    detacher_.join();
    detaching_ = false;
    const auto result = *std::exchange(detachResult_, std::nullopt);
    for (const auto& [client, id] : detachCallers_)
        if (clients_.contains(client))
            send(client, result ? nlohmann::json{{"id", id}, {"result", status()}}
                                : nlohmann::json{{"id", id}, {"error", errorToJson(result.error())}});
    detachCallers_.clear();
    if (result)
        done_ = true;
    else
        spdlog::error("the VM cannot be detached: {}", result.error().message);
}

void ControlServer::publish() {
    nlohmann::json packet;
    for (auto& [fd, client] : clients_) {
        if (!client.subscribed) continue;
        if (packet.is_null()) packet = {{"event", "status"}, {"status", status()}};
        send(fd, packet);
    }
}

void ControlServer::send(int client, const nlohmann::json& packet) {
    const auto text = packet.dump();
    // Never waits: a client that does not read misses events, and its answers; the VM's memory comes first.
    if (::send(client, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EAGAIN)
        spdlog::warn("a client does not read; one packet was dropped");
}

Status ControlServer::status() const {
    auto status = vm_->status();
    if (detaching_ && status.state == "attached") status.state = "detaching";
    if (const auto text = memory::readProcFile("/proc/self/status"))
        status.managerRssBytes = memory::statusField(*text, "RssAnon");
    return status;
}

}  // namespace thermocline::manager
