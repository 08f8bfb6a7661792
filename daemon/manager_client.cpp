// SPDX-License-Identifier: Apache-2.0
#include "daemon/manager_client.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <utility>

namespace thermocline {
namespace {

// Everything but a detach is answered at once; a manager that is silent this long hangs.
constexpr std::chrono::seconds answerTimeout{10};

/// Takes the answer as a T, of which there is a from_json.
template <typename T>
ManagerClient::Reply as(std::function<void(Result<T>)> reply) {
    return [reply = std::move(reply)](Result<nlohmann::json> result) {
        if (!result) return reply(tl::unexpected<Error>(std::move(result).error()));
        try {
            reply(result->get<T>());
        } catch (const nlohmann::json::exception& error) {
            reply(fail(ErrorCode::internal,
                       fmt::format("the manager's answer is not understood: {}", error.what())));
        }
    };
}

}  // namespace

Result<std::unique_ptr<ManagerClient>> ManagerClient::connect(EventLoop& loop,
                                                              const std::filesystem::path& socket,
                                                              Listener& listener) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = socket.string();
    if (path.size() >= sizeof address.sun_path)
        return fail(ErrorCode::systemError, fmt::format("{}: too long for a socket's path", path));
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);

    UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return failErrno("socket");
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        const bool gone = errno == ECONNREFUSED || errno == ENOENT;
        return failErrno(fmt::format("connect to the manager at {}", path), errno,
                         gone ? ErrorCode::processGone : ErrorCode::systemError);
    }
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return failErrno("SO_PEERCRED of " + path);
    return std::unique_ptr<ManagerClient>(new ManagerClient(loop, std::move(fd), peer.pid, listener));
}

ManagerClient::ManagerClient(EventLoop& loop, UniqueFd socket, pid_t managerPid, Listener& listener)
    : loop_(loop), socket_(std::move(socket)), managerPid_(managerPid), listener_(listener) {
    source_ = loop_.watch(socket_.get(), EPOLLIN, [this](std::uint32_t) { receive(); });
}

ManagerClient::~ManagerClient() {
    *alive_ = false;
}

void ManagerClient::status(StatusReply reply) {
    request("status", nullptr, answerTimeout, as<manager::Status>(std::move(reply)));
}

void ManagerClient::setLimit(std::uint64_t bytes, StatusReply reply) {
    request("set-limit", {{"limit_bytes", bytes}}, answerTimeout, as<manager::Status>(std::move(reply)));
}

void ManagerClient::setProactive(double maxStall, std::uint64_t minResidentBytes, StatusReply reply) {
    request("set-proactive", {{"max_stall", maxStall}, {"min_resident_bytes", minResidentBytes}},
            answerTimeout, as<manager::Status>(std::move(reply)));
}

void ManagerClient::closeFileTier(StatusReply reply) {
    request("close-file-tier", nullptr, answerTimeout, as<manager::Status>(std::move(reply)));
}

void ManagerClient::setActivity(memory::Activity activity, StatusReply reply) {
    request("set-activity", {{"activity", memory::activityName(activity)}}, answerTimeout,
            as<manager::Status>(std::move(reply)));
}

void ManagerClient::handOver(StatusReply reply) {
    request("hand-over", nullptr, answerTimeout, as<manager::Status>(std::move(reply)));
}

void ManagerClient::heat(std::uint32_t pieces, HeatReply reply) {
    request("heat", {{"pieces", pieces}}, answerTimeout, as<memory::HeatMap>(std::move(reply)));
}

void ManagerClient::detach(StatusReply reply) {
    request("detach", nullptr, std::nullopt, as<manager::Status>(std::move(reply)));
}

void ManagerClient::subscribe(std::function<void(Result<void>)> reply) {
    request("subscribe", nullptr, answerTimeout, [reply = std::move(reply)](Result<nlohmann::json> result) {
        reply(result ? Result<void>{} : tl::unexpected<Error>(std::move(result).error()));
    });
}

void ManagerClient::request(const char* method, nlohmann::json params,
                            std::optional<std::chrono::seconds> timeout, Reply reply) {
    const std::uint64_t id = nextId_++;
    nlohmann::json json{{"id", id}, {"method", method}};
    if (!params.is_null()) json["params"] = std::move(params);
    const std::string packet = json.dump();

    auto& pending = pending_[id];
    pending.reply = std::move(reply);
    if (::send(socket_.get(), packet.data(), packet.size(), MSG_NOSIGNAL) < 0) {
        const Error error =
            failErrno(fmt::format("{} to manager process {}", method, managerPid_), errno,
                      errno == EPIPE || errno == ECONNRESET || errno == EBADF ? ErrorCode::processGone
                                                                              : ErrorCode::systemError)
                .value();
        // Answered from the loop, as in every other case, not from within the caller's call.
        loop_.post([this, alive = alive_, id, error] {
            if (*alive) answer(id, tl::unexpected<Error>(error));
        });
        return;
    }
    if (timeout)
        pending.timeout = loop_.after(*timeout, [this, id, method] {
            answer(id, fail(ErrorCode::systemError,
                            fmt::format("manager process {} does not answer {}", managerPid_, method)));
        });
}

void ManagerClient::receive() {
    std::string packet(manager::maxPacketBytes, '\0');
    const auto alive = alive_;
    while (*alive && socket_.valid()) {
        const ssize_t got = ::recv(socket_.get(), packet.data(), packet.size(), 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) return close();
        handlePacket(packet.substr(0, static_cast<std::size_t>(got)));
    }
}

void ManagerClient::handlePacket(const std::string& packet) {
    try {
        const auto json = nlohmann::json::parse(packet);
        if (const auto event = json.find("event"); event != json.end()) {
            if (*event == "status") return listener_.onStatus(json.at("status").get<manager::Status>());
            if (*event == "gone") return listener_.onGone();
            spdlog::debug("manager process {}: unknown event {}", managerPid_, event->dump());
            return;
        }
        const auto id = json.at("id").get<std::uint64_t>();
        if (const auto error = json.find("error"); error != json.end())
            return answer(id, tl::unexpected<Error>(manager::errorFromJson(*error)));
        answer(id, json.at("result"));
    } catch (const nlohmann::json::exception& error) {
        // The manager is less privileged than we are: whatever
        // it sends may cost us a line in the log, no more.
        spdlog::error("manager process {}: a packet that is not understood: {}", managerPid_, error.what());
    }
}

void ManagerClient::answer(std::uint64_t id, Result<nlohmann::json> result) {
    auto node = pending_.extract(id);
    if (node.empty()) return;  // answered by its timeout before
    const Reply reply = std::move(node.mapped().reply);
    node.mapped().timeout.reset();
    reply(std::move(result));
}

void ManagerClient::close() {
    const auto alive = alive_;
    auto& listener = listener_;
    source_.reset();
    socket_.reset();
    while (*alive && !pending_.empty())
        answer(pending_.begin()->first,
               fail(ErrorCode::processGone, fmt::format("manager process {} has ended", managerPid_)));
    if (*alive) listener.onClosed();
}

}  // namespace thermocline
