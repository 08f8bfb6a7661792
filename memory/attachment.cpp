// SPDX-License-Identifier: Apache-2.0
#include "memory/attachment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/syscall.h>

#include <cstring>
#include <filesystem>
#include <utility>

#include "memory/infection.h"
#include "memory/process_map.h"
#include "memory/remote_process.h"

namespace thermocline::memory {
namespace {

/// While it lives, this thread runs on the CPU where `thread` ran last, and before ordinary work: an
/// injection is some forty hand-overs between the two, each of which would otherwise wake another CPU or wait
/// behind whatever else runs. Best effort.
class CloseTo {
  public:
    explicit CloseTo(pid_t thread) : policy_(::sched_getscheduler(0)) {
        ::sched_getaffinity(0, sizeof affinity_, &affinity_);
        ::sched_getparam(0, &parameter_);
        if (const auto cpu = LastCpu().of(thread)) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(*cpu, &set);
            ::sched_setaffinity(0, sizeof set, &set);
        }
        sched_param first{};
        first.sched_priority = 1;
        ::sched_setscheduler(0, SCHED_FIFO, &first);
    }
    ~CloseTo() {
        ::sched_setscheduler(0, policy_, &parameter_);
        ::sched_setaffinity(0, sizeof affinity_, &affinity_);
    }
    CloseTo(const CloseTo&) = delete;
    CloseTo& operator=(const CloseTo&) = delete;

  private:
    int policy_;
    sched_param parameter_{};
    cpu_set_t affinity_{};
};

Result<UniqueFd> openPidfd(pid_t pid) {
    UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!process.valid())
        return failErrno(fmt::format("pidfd_open({})", pid), errno,
                         errno == ESRCH ? ErrorCode::processGone : ErrorCode::systemError);
    return process;
}

bool sameProcess(const Footprint& one, const Footprint& other) {
    return one.pid == other.pid && one.startTime == other.startTime;
}

/// The descriptors that come from outside of the process.
Result<void> openProcess(Attachment& attachment) {
    const auto pid = attachment.footprint.pid;
    auto process = openPidfd(pid);
    if (!process) return tl::unexpected(process.error());
    attachment.process = std::move(*process);
    attachment.memory.reset(::open(fmt::format("/proc/{}/mem", pid).c_str(), O_RDWR | O_CLOEXEC));
    attachment.pagemap.reset(::open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC));
    attachment.status.reset(::open(fmt::format("/proc/{}/status", pid).c_str(), O_RDONLY | O_CLOEXEC));
    if (!attachment.memory.valid() || !attachment.pagemap.valid() || !attachment.status.valid())
        return failErrno(fmt::format("/proc/{}/mem", pid), errno, ErrorCode::permissionDenied);
    return {};
}

}  // namespace

StagingArea::StagingArea(VmRange reservation, std::uint64_t blocks)
    : base_{roundUp(reservation.start.value, blockBytes)}, blocks_(blocks) {}

std::uint64_t StagingArea::bytesFor(std::uint64_t blocks) {
    return (blocks + 2 * laneCount + 1) * blockBytes;
}

Result<Attachment> attach(pid_t pid, const std::vector<VmRange>& guestRam, std::uint64_t blocks,
                          Mechanism mechanism, const std::vector<int>& keep,
                          const std::string& userfaultfdDevice) {
    Attachment attachment;
    attachment.footprint.pid = pid;
    attachment.footprint.mechanism = mechanism;
    attachment.footprint.guestRam = guestRam;
    const UniqueFd device(::open(userfaultfdDevice.c_str(), O_RDWR | O_CLOEXEC));
    if (!device.valid())
        return fail(
            ErrorCode::notSupported,
            fmt::format(
                "{} cannot be opened ({}); it needs Linux 6.1 or newer with CONFIG_USERFAULTFD, and a "
                "/dev that has it",
                userfaultfdDevice, std::strerror(errno)));
    const auto started = processStartTime(pid);
    if (!started) return tl::unexpected(started.error());
    attachment.footprint.startTime = *started;
    THERMOCLINE_TRY(openProcess(attachment));
    if (mechanism == Mechanism::unmap) {
        auto files = GuestFiles::open(pid, guestRam);
        if (!files) return tl::unexpected(files.error());
        attachment.files = std::move(*files);
    }
    const auto code = agentCode();
    if (!code) return tl::unexpected(code.error());
    auto control = controlPages();
    if (!control) return tl::unexpected(control.error());
    attachment.control = std::move(*control);

    const CloseTo close(pid);
    auto remote = RemoteProcess::stop(pid);
    if (!remote) return tl::unexpected(remote.error());
    if (const auto infected = infect(**remote, attachment, device.get(), code->get(), blocks, keep);
        !infected) {
        dismissAgents(attachment.control, attachment.footprint);
        (void)awaitThreadsEnd(attachment.footprint);
        (void)takeOut(**remote, {attachment.footprint}, attachment.control);
        return tl::unexpected(infected.error());
    }
    const auto pause = (*remote)->stoppedFor();
    remote->reset();
    attachment.footprint.pauseMicroseconds =
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(pause).count());
    return attachment;
}

Result<Attachment> reattach(const Footprint& footprint) {
    Attachment attachment;
    attachment.footprint = footprint;
    THERMOCLINE_TRY(openProcess(attachment));
    // After the pidfd: the number cannot have become another process's since.
    const auto started = processStartTime(footprint.pid);
    if (!started || *started != footprint.startTime)
        return fail(ErrorCode::processGone, fmt::format("process {} has ended", footprint.pid));
    if (findAttachedDescriptor(footprint.pid) != footprint.controlFd)
        return fail(ErrorCode::notAttached,
                    fmt::format("process {} does not hold descriptor {} of an attachment", footprint.pid,
                                footprint.controlFd));
    auto control = takeDescriptor(attachment.process, footprint.controlFd);
    if (!control) return tl::unexpected(control.error());
    attachment.control = std::move(*control);
    // The numbers are other files' by then.
    if (const auto note = readNote(attachment.control);
        note && sameProcess(note->footprint, footprint) && note->footprint.guestUffd != footprint.guestUffd)
        return fail(ErrorCode::notAttached,
                    fmt::format("what was put into process {} is being taken out", footprint.pid));
    for (const auto& [number, ours] : {std::pair(footprint.guestUffd, &attachment.guestUffd),
                                       std::pair(footprint.dropUffd, &attachment.dropUffd)}) {
        auto taken = takeDescriptor(attachment.process, number);
        if (!taken) return tl::unexpected(taken.error());
        *ours = std::move(*taken);
    }
    for (const int number : footprint.kept) {
        auto taken = takeDescriptor(attachment.process, number);
        attachment.kept.push_back(taken ? std::move(*taken) : UniqueFd());
    }
    return attachment;
}

Result<void> cure(const Footprint& footprint) {
    const auto process = openPidfd(footprint.pid);
    if (!process) return tl::unexpected(process.error());
    const auto started = processStartTime(footprint.pid);
    if (!started || *started != footprint.startTime)
        return fail(ErrorCode::processGone, fmt::format("process {} has ended", footprint.pid));
    if (findAttachedDescriptor(footprint.pid) != footprint.controlFd)
        return fail(ErrorCode::notAttached,
                    fmt::format("process {} does not hold descriptor {}: cured already", footprint.pid,
                                footprint.controlFd));
    const auto control = takeDescriptor(*process, footprint.controlFd);
    if (!control) return tl::unexpected(control.error());
    THERMOCLINE_TRY(awaitThreadsEnd(footprint));
    const auto remote = RemoteProcess::stop(footprint.pid);
    if (!remote) return tl::unexpected(remote.error());
    // Another one may have taken out a part of it. Where an older one attached, there is no note.
    auto note = readNote(*control);
    if (!note || !sameProcess(note->footprint, footprint)) note = Note{footprint, true};
    return takeOut(**remote, std::move(*note), *control);
}

void markFinished(const Attachment& attachment) {
    writeNote(attachment.control, {attachment.footprint, true});
}

Result<void> undoUnfinished(pid_t pid) {
    const auto process = openPidfd(pid);
    if (!process) return tl::unexpected(process.error());
    // Before it is looked at: a call of the dead one's may not even have begun.
    const auto remote = RemoteProcess::stop(pid);
    if (!remote) return tl::unexpected(remote.error());
    const auto number = findAttachedDescriptor(pid);
    if (!number) return {};
    const auto control = takeDescriptor(*process, *number);
    if (!control) return tl::unexpected(control.error());
    auto note = readNote(*control);
    if (!note) return tl::unexpected(note.error());
    if (note->finished)
        return fail(ErrorCode::busy,
                    fmt::format("process {} is attached, and its footprint is not here", pid));
    const auto started = processStartTime(pid);
    if (note->footprint.pid != pid || !started || *started != note->footprint.startTime)
        return fail(ErrorCode::processGone, fmt::format("process {} has ended", note->footprint.pid));
    THERMOCLINE_TRY(addUnnoted(**remote, note->footprint, *number));
    dismissAgents(*control, note->footprint);
    THERMOCLINE_TRY(awaitThreadsEnd(note->footprint));
    return takeOut(**remote, std::move(*note), *control);
}

std::optional<int> findAttachedDescriptor(pid_t pid) {
    std::error_code error;
    const auto wanted = fmt::format("/memfd:{} (deleted)", controlName);
    std::filesystem::directory_iterator entry(fmt::format("/proc/{}/fd", pid), error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        std::error_code gone;
        if (std::filesystem::read_symlink(entry->path(), gone) == wanted)
            return std::stoi(entry->path().filename().string());
    }
    return std::nullopt;
}

}  // namespace thermocline::memory
