// SPDX-License-Identifier: Apache-2.0

// A Domain whose manager runs a program that is not the installed one any more: another takes over from it,
// without the VM being detached.
//
// The manager is asked to hand over: it stops, leaves everything where it is, and ends. `run --recover` of
// the installed program goes on as it would after a crash, which may happen at any instruction; so whatever
// goes wrong between the two is no more than that. What makes it worse than a crash is looked at before: a
// program that does not run here, or does not understand what is there, is not let near the VM. It keeps its
// manager, and the state's note says so.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "daemon/domain.h"

namespace thermocline {

void Domain::followInstalled() {
    if (environment_.replacements == nullptr || state_ != State::attached || !client_ ||
        environment_.managers.isInstalled(client_->managerPid()))
        return;
    environment_.replacements->ask([this, alive = std::weak_ptr<bool>(alive_)](std::function<void()> over) {
        if (alive.expired()) return over();
        replaceManager(std::move(over));
    });
}

void Domain::replaceManager(std::function<void()> over) {
    if (state_ != State::attached || !client_) return over();
    const auto directory = environment_.runtime.domainDirectory(info_.uuid);
    environment_.managers.check(
        directory, [this, over = std::move(over), alive = std::weak_ptr<bool>(alive_)](Result<void> fits) {
            if (alive.expired() || state_ != State::attached || !client_) return over();
            const auto keep = [this](const std::string& why) {
                enter(State::attached,
                      fmt::format("its manager is not the installed one, and stays: {}; it is replaced when "
                                  "the domain is detached and attached again, or starts again",
                                  why));
            };
            if (!fits) {
                keep(fits.error().message);
                return over();
            }
            spdlog::info("domain {}: its manager, process {}, is replaced by the installed one", info_.name,
                         client_->managerPid());
            replaced_ = over;
            enter(State::recovering, "its manager is being replaced by the installed one");
            client_->handOver([this, keep](Result<manager::Status> answer) {
                if (answer) {
                    leavingToAnother_ = true;
                    return expectManagerEnd();
                }
                // Where it has ended, onManagerEnded goes on.
                if (answer.error().code != ErrorCode::processGone) keep(answer.error().message);
            });
        });
}

}  // namespace thermocline
