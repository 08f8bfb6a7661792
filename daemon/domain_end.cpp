// SPDX-License-Identifier: Apache-2.0
// The second half of Domain: detach, ends that nobody asked for, and finding a manager again.
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <utility>

#include "daemon/domain.h"

namespace thermocline {

using namespace std::chrono_literals;

void Domain::detach(Done done) {
    detachTo(requested({}), std::move(done));
}

void Domain::detachTo(const db::Policy& policy, Done done) {
    if (state_ == State::attaching || state_ == State::detaching || state_ == State::recovering)
        return done(fail(ErrorCode::busy, fmt::format("domain {} is {}; try again when that is over",
                                                      info_.name, stateName(state_))));
    if (state_ == State::detached && !policy_.managed)
        return done(fail(ErrorCode::notAttached, fmt::format("domain {} is not attached", info_.name)));
    if (state_ == State::failed && managerPidfd_.valid())
        return done(fail(ErrorCode::busy, fmt::format("domain {}: {}", info_.name, stateNote_)));
    const db::Policy before = policy_;
    if (auto saved = save(policy); !saved) return done(std::move(saved));
    retry_.reset();
    done = asRequest(std::move(done));
    if (state_ == State::detached) {  // nothing in the VM, only the policy to forget
        enter(State::detached);
        return done({});
    }
    auto finish = [this, before, done = std::move(done)](Result<void> detached) {
        if (!detached) restore(before);
        done(std::move(detached));
    };
    if (state_ == State::failed) return cure(std::move(finish));

    enter(State::detaching);
    pendingDetach_ = std::move(finish);
    client_->detach([this](Result<manager::Status> answer) {
        if (answer) {
            leaving_ = true;
            status_ = std::move(*answer);
            expectManagerEnd();
            return;
        }
        if (answer.error().code == ErrorCode::processGone) return;  // onManagerEnded finds out why
        if (state_ == State::detaching) enter(State::attached);
        if (pendingDetach_) std::exchange(pendingDetach_, nullptr)(tl::unexpected<Error>(answer.error()));
    });
}

void Domain::watchVm(UniqueFd pidfd) {
    vmSource_.reset();
    vmPidfd_ = std::move(pidfd);
    vmSource_ = environment_.loop.watch(vmPidfd_.get(), EPOLLIN, [this](std::uint32_t) { onVmEnded(); });
}

bool Domain::vmEnded() const {
    return !vmPidfd_.valid() || hasEnded(vmPidfd_);
}

void Domain::onVmEnded() {
    vmSource_.reset();  // it stays readable
    spdlog::info("domain {}: its process {} has ended", info_.name, vmPid_);
    // A manager that runs ends by itself once it noticed; one that is still attaching gives its answer.
    if (managerPidfd_.valid()) return expectManagerEnd();
    recovery_.reset();
    if (state_ == State::failed) return clearUp();
    // Between two recoveries; one that is under way gives its answer.
    if (state_ == State::recovering && !recovering_) clearUp();
}

void Domain::onGone() {
    spdlog::debug("domain {}: its manager says that the VM is gone", info_.name);
    expectManagerEnd();
}

void Domain::onClosed() {
    // The process' end decides what this means; it follows at once, or the manager is out of its mind.
    if (managerPidfd_.valid()) expectManagerEnd();
}

void Domain::expectManagerEnd() {
    if (patience_.active()) return;
    patience_ = environment_.loop.after(environment_.endPatience, [this] {
        patience_.reset();
        if (vmEnded() || leaving_ || leavingToAnother_) {
            spdlog::error("domain {}: its manager has nothing left to do but does not end; killing it",
                          info_.name);
            ::syscall(SYS_pidfd_send_signal, managerPidfd_.get(), SIGKILL, nullptr, 0);
            return;
        }
        // It may still be serving the VM's faults, so it is left alone.
        enter(State::failed,
              "its manager runs but does not talk to the daemon; restart thermoclined to try again");
    });
}

void Domain::onManagerEnded() {
    managerSource_.reset();
    // Its last words may still be in the socket: the answer
    // to a detach, and its end, come at the same moment.
    client_->drain();
    managerPidfd_.reset();
    patience_.reset();
    // Not at once: this may be called from inside the client.
    environment_.loop.post([client = std::shared_ptr<ManagerClient>(std::move(client_))] {});

    auto done = std::exchange(pendingDetach_, nullptr);
    if (vmEnded()) {
        clearUp();
        if (done) done({});  // there is nothing left to detach from
        return;
    }
    if (leaving_) {
        if (!done) done = [](const Result<void>&) {};
        return cure(std::move(done));
    }
    recover(std::exchange(leavingToAnother_, false) ? "its manager is being replaced by the installed one"
                                                    : "its manager crashed");
    if (done)
        done(fail(ErrorCode::processGone,
                  fmt::format("domain {}: its manager crashed during the detach", info_.name)));
}

void Domain::recover(std::string why) {
    constexpr auto livesLong = 1s;
    constexpr std::chrono::milliseconds longestPause = 5s;
    if (std::chrono::steady_clock::now() - recoveredAt_ > livesLong) recoveries_ = 0;
    spdlog::warn(
        "domain {}: {}; what the VM touches outside its RAM waits for another one, the pages are in {}",
        info_.name, why, environment_.runtime.domainDirectory(info_.uuid).string());
    if (recoveries_ >= environment_.mostRecoveries) {
        enter(State::failed,
              fmt::format(
                  "{}, {} times within a short time; the VM waits. The managers' log says why; thermoctl "
                  "attach {} tries again",
                  why, recoveries_ + 1, info_.name));
        if (pendingRecovery_)
            std::exchange(pendingRecovery_, nullptr)(fail(ErrorCode::processGone, stateNote_));
        return;
    }
    enter(State::recovering, std::move(why));
    if (recoveries_++ == 0) return startRecovery();
    const auto pause =
        environment_.recoveryPause * (std::int64_t{1} << std::min<std::size_t>(recoveries_ - 2, 10));
    recovery_ = environment_.loop.after(std::min<std::chrono::milliseconds>(pause, longestPause), [this] {
        recovery_.reset();
        startRecovery();
    });
}

void Domain::startRecovery() {
    recovering_ = true;
    environment_.managers.run(
        vmPid_, environment_.runtime.domainDirectory(info_.uuid), info_.name,
        [this](tl::expected<manager::Status, AttachFailure> ready) { onRecovered(std::move(ready)); }, true);
}

void Domain::onRecovered(tl::expected<manager::Status, AttachFailure> ready) {
    recovering_ = false;
    recoveredAt_ = std::chrono::steady_clock::now();
    const Done done = [this](Result<void> attached) {
        // Where that one died, too, the next goes on.
        if (state_ == State::recovering) return;
        if (attached) spdlog::info("domain {}: its memory is managed again", info_.name);
        if (pendingRecovery_) std::exchange(pendingRecovery_, nullptr)(std::move(attached));
    };
    if (ready) {
        status_ = std::move(*ready);
        if (auto opened = openClient(); opened) return subscribe(done);
        if (vmEnded()) {
            clearUp();
            return done({});
        }
        return recover("its manager crashed");
    }
    if (vmEnded()) {
        clearUp();
        return done(tl::unexpected<Error>(ready.error().error));
    }
    if (!ready.error().clean) return recover("its manager crashed while it recovered");
    if (ready.error().error.code == ErrorCode::notAttached) return cure(done);
    // One that a daemon before this one has started was quicker.
    if (ready.error().error.code == ErrorCode::busy) {
        if (!openClient()) return recover("its manager does not answer");
        return client_->status([this, done](Result<manager::Status> status) {
            if (!status) return noAnswer(status.error(), done);
            status_ = std::move(*status);
            subscribe(done);
        });
    }
    spdlog::critical("domain {}: cannot be recovered: {}", info_.name, ready.error().error.message);
    enter(State::failed,
          fmt::format(
              "its manager crashed, and cannot be followed by another: {}; thermoctl detach {} sets the VM "
              "free where no page of it is in the store, else only its end (virsh destroy) does",
              ready.error().error.message, info_.name));
    done(tl::unexpected<Error>(ready.error().error));
}

void Domain::cure(Done done) {
    if (state_ != State::detaching) enter(State::detaching);
    environment_.managers.cure(vmPid_, environment_.runtime.domainDirectory(info_.uuid),
                               [this, done = std::move(done)](Result<void> cured) {
                                   if (cured || vmEnded()) {
                                       clearUp();
                                       return done({});
                                   }
                                   spdlog::critical("domain {}: {}", info_.name, cured.error().message);
                                   enter(State::failed, cured.error().message);
                                   done(std::move(cured));
                               });
}

void Domain::clearUp() {
    if (pendingRecovery_)
        std::exchange(pendingRecovery_, nullptr)(fail(
            ErrorCode::processGone, fmt::format("nothing of domain {} is left to go on with", info_.name)));
    if (auto removed = environment_.runtime.removeDomain(info_.uuid); !removed)
        spdlog::error("domain {}: {}", info_.name, removed.error().message);
    if (vmEnded()) endedId_ = info_.running ? vmId_ : 0;
    vmSource_.reset();
    vmPidfd_.reset();
    vmPid_ = 0;
    vmId_ = 0;
    pausedLong_.reset();
    tellingActivity_ = false;
    status_ = {};
    lossNote_.clear();
    leaving_ = false;
    leavingToAnother_ = false;
    recoveries_ = 0;
    supportPid_ = -1;
    enter(State::detached);
    // The same domain may run again already, in a new process. From the loop: a caller may not be finished.
    retry_ = environment_.loop.after(0ms, [this] {
        retry_.reset();
        attachByPolicy();
    });
}

void Domain::adopt(const DomainRecord& record) {
    // Without a record (its file cannot be read) the command line tells whose process it is.
    const bool recorded = record.pid != 0;
    const pid_t pid = recorded ? record.pid : environment_.processes.find(info_.uuid, info_.name).value_or(0);
    auto pidfd = openPidfd(pid);
    const bool lives =
        pidfd && (!recorded || environment_.processes.startTime(pid).value_or(0) == record.startTime);
    if (lives) {
        vmPid_ = pid;
        watchVm(std::move(*pidfd));
    }
    enter(State::attaching);
    if (auto opened = openClient(); !opened) {
        if (!lives) return clearUp();
        return recover(fmt::format("it has no manager ({})", opened.error().message));
    }
    spdlog::info("domain {}: found its manager again, process {}", info_.name, client_->managerPid());
    if (!lives) expectManagerEnd();
    const Done done = [this](const Result<void>& attached) {
        if (!attached)
            return spdlog::error("domain {}: its manager: {}", info_.name, attached.error().message);
        followInstalled();
    };
    client_->status([this, done](Result<manager::Status> status) {
        if (!status) return noAnswer(status.error(), done);
        status_ = std::move(*status);
        subscribe(done);
    });
}

}  // namespace thermocline
