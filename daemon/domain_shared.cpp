// SPDX-License-Identifier: Apache-2.0

// A Domain whose RAM is shared: QEMU may hand it to the back end of a vhost-user device at any time, and the
// manager, which has no privileges, cannot see that.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "daemon/domain.h"
#include "memory/attachment.h"
#include "memory/other_mappers.h"
#include "memory/process_map.h"

namespace thermocline {
namespace {

/// As memory::refuseOtherMappers(), of the attachment that is recorded in `stateDirectory`.
Result<void> refuseOtherMappers(const std::filesystem::path& stateDirectory, pid_t manager) {
    const auto path = stateDirectory / manager::attachmentFileName;
    const auto text = memory::readProcFile(path);
    if (!text) return tl::unexpected(text.error());
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    memory::Footprint footprint;
    try {
        json.get_to(footprint);
    } catch (const nlohmann::json::exception& exception) {
        return fail(ErrorCode::systemError,
                    fmt::format("{} is damaged: {}", path.string(), exception.what()));
    }
    return memory::refuseOtherMappers(footprint.pid, footprint.guestRam, manager);
}

}  // namespace

void Domain::watchMappers() {
    const bool wanted =
        state_ == State::attached && status_.mechanism == memory::mechanismName(memory::Mechanism::unmap);
    if (!wanted) return mapperLook_.reset();
    if (!mapperLook_.active())
        mapperLook_ = environment_.loop.every(environment_.mapperInterval, [this] { lookForOtherMappers(); });
}

/// The VM is detached, since pages that are taken out would be missing there; attached again as its policy
/// says, it is refused as long as that lasts.
void Domain::lookForOtherMappers() {
    if (requests_ != 0 || !client_) return;
    const auto alone =
        refuseOtherMappers(environment_.runtime.domainDirectory(info_.uuid), client_->managerPid());
    if (alone || alone.error().code == ErrorCode::processGone) return;
    if (alone.error().code != ErrorCode::notSupported)
        return spdlog::error("domain {}: {}", info_.name, alone.error().message);
    spdlog::warn("domain {}: detaching: {}", info_.name, alone.error().message);
    detachTo(policy_, [this](const Result<void>& detached) {
        if (!detached)
            spdlog::critical("domain {}: cannot be detached: {}", info_.name, detached.error().message);
    });
}

}  // namespace thermocline
