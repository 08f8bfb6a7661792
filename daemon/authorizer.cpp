// SPDX-License-Identifier: Apache-2.0
#include "daemon/authorizer.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <utility>

namespace thermocline {
namespace {

constexpr const char* busName = "org.freedesktop.DBus";
constexpr const char* polkitName = "org.freedesktop.PolicyKit1";
constexpr const char* authorityInterface = "org.freedesktop.PolicyKit1.Authority";
/// Of one user. Somebody may be asked for a password, which takes time.
constexpr int mostOpen = 16;
constexpr std::chrono::microseconds patience = std::chrono::minutes(5);

using Subject = sdbus::Struct<std::string, std::map<std::string, sdbus::Variant>>;
using Verdict = sdbus::Struct<bool, bool, std::map<std::string, std::string>>;

std::string_view actionId(Authorizer::Action action) {
    return action == Authorizer::Action::manageDomain ? "org.thermocline1.manage-domain"
                                                      : "org.thermocline1.manage-host";
}

bool isAbsent(const sdbus::Error& error) {
    constexpr std::array<std::string_view, 4> names{
        "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
        "org.freedesktop.DBus.Error.Spawn.ServiceNotFound", "org.freedesktop.DBus.Error.Spawn.ChildExited"};
    return std::find(names.begin(), names.end(), error.getName()) != names.end();
}

}  // namespace

struct Authorizer::Question {
    std::string sender;
    Action action;
    std::optional<uid_t> owner;
    Details details;
    Done done;
    uid_t user = 0;
};

Authorizer::Authorizer(sdbus::IConnection& connection)
    : self_(::geteuid()),
      bus_(sdbus::createProxy(connection, busName, "/org/freedesktop/DBus")),
      polkit_(sdbus::createProxy(connection, polkitName, "/org/freedesktop/PolicyKit1/Authority")) {}

void Authorizer::check(const std::string& sender, Action action, std::optional<uid_t> owner, Details details,
                       Done done) {
    auto question =
        std::make_shared<Question>(Question{sender, action, owner, std::move(details), std::move(done)});
    bus_->callMethodAsync("GetConnectionUnixUser")
        .onInterface(busName)
        .withArguments(sender)
        .uponReplyInvoke([this, question](const sdbus::Error* error, std::uint32_t user) {
            if (error != nullptr)
                return question->done(fail(ErrorCode::permissionDenied,
                                           fmt::format("the bus does not say whose client {} is: {}",
                                                       question->sender, error->getMessage())));
            question->user = user;
            const bool own = question->action == Action::manageDomain && question->owner == user;
            if (user == 0 || user == self_ || own) return question->done({});
            askPolkit(question);
        });
}

void Authorizer::askPolkit(const std::shared_ptr<Question>& question) {
    if (++open_[question->user] > mostOpen)
        return answer(question,
                      fail(ErrorCode::busy, fmt::format("user {} is asking for too much at once; wait for "
                                                        "the answers",
                                                        question->user)));
    constexpr std::uint32_t allowUserInteraction = 1;
    polkit_->callMethodAsync("CheckAuthorization")
        .onInterface(authorityInterface)
        .withTimeout(patience)
        .withArguments(Subject{"system-bus-name", {{"name", sdbus::Variant(question->sender)}}},
                       std::string(actionId(question->action)), question->details, allowUserInteraction,
                       std::string())
        .uponReplyInvoke([this, question](const sdbus::Error* error, const Verdict& verdict) {
            const auto refuse = [&](const std::string& why) {
                spdlog::info("user {} was refused {}: {}", question->user, actionId(question->action), why);
                answer(question, fail(ErrorCode::permissionDenied, why));
            };
            if (error == nullptr && verdict.get<0>()) return answer(question, {});
            if (error == nullptr)
                return refuse(
                    fmt::format("polkit does not authorize user {} for {}; ask an administrator, or run it "
                                "as root",
                                question->user, actionId(question->action)));
            if (isAbsent(*error))
                return refuse(
                    fmt::format("only root{} may do this: there is no polkit on this bus that could let user "
                                "{}",
                                self_ == 0 ? "" : fmt::format(" and user {}", self_), question->user));
            refuse(fmt::format("polkit does not answer: {}", error->getMessage()));
        });
}

void Authorizer::answer(const std::shared_ptr<Question>& question, Result<void> result) {
    if (const auto open = open_.find(question->user); open != open_.end() && --open->second == 0)
        open_.erase(open);
    question->done(std::move(result));
}

std::optional<uid_t> ownerOf(pid_t vm) {
    struct stat info {};
    if (vm <= 0 || ::stat(fmt::format("/proc/{}", vm).c_str(), &info) != 0) return std::nullopt;
    if (!isPerson(info.st_uid)) return std::nullopt;
    return info.st_uid;
}

std::string senderOf(const sdbus::IObject& object) {
    return object.getCurrentlyProcessedMessage()->getSender();
}

}  // namespace thermocline
