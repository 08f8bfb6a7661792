// SPDX-License-Identifier: Apache-2.0
#include "memory/attachment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <thread>

#include "memory/process_map.h"
#include "memory/remote_process.h"

extern "C" {
extern const std::byte thermoclineAgentImage[];
extern const std::byte thermoclineAgentImageEnd[];
}

namespace thermocline::memory {
namespace {

constexpr const char* controlName = "thermocline-control";
constexpr std::uint64_t stackBytes = 16384;
constexpr unsigned memfdExec = 0x10;  // MFD_EXEC, Linux 6.3

// Layout of the scratch mapping: one page of messages, then a stack per lane. Each lane's TLS block and tids
// are in the first page, too.
constexpr std::uint64_t messageOffset = 0;
constexpr std::uint64_t controlMessageOffset = 256;
constexpr std::uint64_t socketOffset = 512;
constexpr std::uint64_t payloadOffset = 576;
constexpr std::uint64_t vectorOffset = 640;
constexpr std::uint64_t threadOffset = 1024;
constexpr std::uint64_t threadBytes = 256;
constexpr std::uint64_t scratchBytes = pageBytes + laneCount * stackBytes;

// Behind the control pages: the footprint as JSON, without guest RAM. Within one page, so that a write() is
// done or not, whenever the manager is killed.
constexpr std::uint64_t noteOffset = laneCount * THERMOCLINE_LANE_BYTES;
constexpr const char* finishedField = "finished";

std::uint64_t roundUp(std::uint64_t value, std::uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

Result<UniqueFd> agentCode() {
    const std::span<const std::byte> image(thermoclineAgentImage, thermoclineAgentImageEnd);
    UniqueFd file(static_cast<int>(
        syscall(SYS_memfd_create, "thermocline-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING | memfdExec)));
    if (!file.valid() && errno == EINVAL)
        file.reset(static_cast<int>(
            syscall(SYS_memfd_create, "thermocline-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING)));
    if (!file.valid()) return failErrno("memfd_create for the agent");
    if (::write(file.get(), image.data(), image.size()) != static_cast<ssize_t>(image.size()) ||
        ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
        return failErrno("preparing the agent's code");
    return file;
}

Result<UniqueFd> controlPages() {
    UniqueFd file(static_cast<int>(syscall(SYS_memfd_create, controlName, MFD_CLOEXEC)));
    if (!file.valid()) return failErrno("memfd_create for the control pages");
    if (::ftruncate(file.get(), noteOffset + pageBytes) != 0) return failErrno("sizing the control pages");
    return file;
}

Result<UniqueFd> takeDescriptor(const UniqueFd& process, int number) {
    UniqueFd fd(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), number, 0)));
    if (!fd.valid()) return failErrno(fmt::format("pidfd_getfd({})", number));
    return fd;
}

/// While it lives, this thread runs on the CPU where `thread` ran last, and before ordinary work: an
/// injection is some forty hand-overs between the two, each of which would otherwise wake another CPU or wait
/// behind whatever else runs. Best effort.
class CloseTo {
  public:
    explicit CloseTo(pid_t thread) : policy_(::sched_getscheduler(0)) {
        ::sched_getaffinity(0, sizeof affinity_, &affinity_);
        ::sched_getparam(0, &parameter_);
        if (const auto cpu = lastCpuOf(thread)) {
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

/// Writes any trivially copyable value into the process.
template <typename T>
Result<void> put(RemoteProcess& remote, VmAddress to, const T& value) {
    return remote.write(to, std::as_bytes(std::span(&value, 1)));
}

/// What recvmsg() writes beside the data: room for all that is handed over.
struct alignas(cmsghdr) Ancillary : std::array<char, CMSG_SPACE((3 + mostKept) * sizeof(int))> {
    Ancillary() : array{} {}
};

std::vector<int> descriptorsIn(const Ancillary& ancillary) {
    cmsghdr header{};
    std::memcpy(&header, ancillary.data(), sizeof header);
    if (header.cmsg_type != SCM_RIGHTS || header.cmsg_len <= CMSG_LEN(0) ||
        header.cmsg_len > ancillary.size())
        return {};
    std::vector<int> descriptors((header.cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(descriptors.data(), ancillary.data() + CMSG_LEN(0), descriptors.size() * sizeof(int));
    return descriptors;
}

/// Best effort: it is only read where the manager is killed in the next millisecond.
void note(const Attachment& attachment, bool finished = false) {
    auto footprint = attachment.footprint;
    footprint.guestRam.clear();
    nlohmann::json json = footprint;
    json[finishedField] = finished;
    const auto text = json.dump();
    std::array<char, pageBytes> page{};
    if (text.size() >= page.size()) return;
    std::copy(text.begin(), text.end(), page.begin());
    (void)!::pwrite(attachment.control.get(), page.data(), page.size(), noteOffset);
}

/// Steps 2 and 3 on a stopped process. Whatever was done before an error is in the footprint.
class Infection {
  public:
    Infection(RemoteProcess& remote, Attachment& attachment) : remote_(remote), attachment_(attachment) {}

    Result<void> run(int userfaultfdDevice, int code, std::uint64_t blocks, const std::vector<int>& keep) {
        auto& f = attachment_.footprint;
        const auto scratch =
            map(f.scratch, scratchBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        if (!scratch) return scratch;
        std::vector<int> descriptors{userfaultfdDevice, code, attachment_.control.get()};
        descriptors.insert(descriptors.end(), keep.begin(), keep.end());
        THERMOCLINE_TRY(handOver(descriptors));
        f.controlFd = received_[2];
        f.kept.assign(received_.begin() + 3, received_.end());
        f.passing.insert(f.passing.end(), received_.begin(), received_.begin() + 2);
        note(attachment_);
        if (f.kept.size() < keep.size()) closeKept();
        THERMOCLINE_TRY(newUserfault(f.guestUffd, attachment_.guestUffd));
        THERMOCLINE_TRY(newUserfault(f.dropUffd, attachment_.dropUffd));
        THERMOCLINE_TRY(map(
            f.code,
            roundUp(static_cast<std::uint64_t>(thermoclineAgentImageEnd - thermoclineAgentImage), pageBytes),
            PROT_READ | PROT_EXEC, MAP_PRIVATE, received_[1]));
        THERMOCLINE_TRY(map(f.control, laneCount * THERMOCLINE_LANE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                            received_[2]));
        THERMOCLINE_TRY(map(f.staging, StagingArea::bytesFor(blocks), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1));
        // Children of the VM's process must not see the staging area, nor core files hold it twice.
        THERMOCLINE_TRY(advise(f.staging, MADV_DONTFORK));
        THERMOCLINE_TRY(advise(f.staging, MADV_DONTDUMP));
        for (std::size_t lane = 0; lane < laneCount; ++lane)
            THERMOCLINE_TRY(advise(StagingArea(f.staging, blocks).fresh(lane), MADV_HUGEPAGE));
        closeReceived(0);
        closeReceived(1);
        for (std::size_t lane = 0; lane < laneCount; ++lane) {
            const auto stackTop = f.scratch.start + pageBytes + (lane + 1) * stackBytes;
            const auto thread =
                remote_.startThread(f.code.start, f.control.start + lane * THERMOCLINE_LANE_BYTES, stackTop,
                                    f.scratch.start + threadOffset + lane * threadBytes);
            if (!thread) return tl::unexpected(thread.error());
            f.threads[lane] = *thread;
            note(attachment_);
        }
        return {};
    }

    /// Closes what is only needed while infecting, on success and failure alike.
    void closeReceived() {
        for (std::size_t i = 0; i < 2; ++i)
            closeReceived(i);
        for (auto& socket : sockets_)
            close(socket);
    }

  private:
    Result<void> map(VmRange& range, std::uint64_t bytes, int protection, int flags, int fd) {
        const auto address =
            remote_.call("mmap", SYS_mmap,
                         {0, bytes, static_cast<std::uint64_t>(protection), static_cast<std::uint64_t>(flags),
                          static_cast<std::uint64_t>(static_cast<std::int64_t>(fd)), 0});
        if (!address) return tl::unexpected(address.error());
        range = {{*address}, bytes};
        note(attachment_);
        return {};
    }
    /// What is only passing.
    void close(int& fd) {
        if (fd < 0) return;
        // First: it must not be closed again when another file has that number.
        std::erase(attachment_.footprint.passing, fd);
        note(attachment_);
        (void)remote_.call("close", SYS_close, {static_cast<std::uint64_t>(fd)});
        fd = -1;
    }
    Result<void> advise(VmRange range, int advice) {
        const auto done = remote_.call("madvise", SYS_madvise,
                                       {range.start.value, range.bytes, static_cast<std::uint64_t>(advice)});
        if (!done) return tl::unexpected(done.error());
        return {};
    }
    void closeKept() {
        for (const int fd : attachment_.footprint.kept)
            (void)remote_.call("close", SYS_close, {static_cast<std::uint64_t>(fd)});
        attachment_.footprint.kept.clear();
    }
    void closeReceived(std::size_t i) {
        if (i < received_.size()) close(received_[i]);
    }

    /// Gives the process copies of our descriptors through a socket pair that it makes itself.
    /// The first three it must get; where it does not get a later one, it gets none behind that.
    Result<void> handOver(const std::vector<int>& descriptors) {
        const auto scratch = attachment_.footprint.scratch.start;
        const auto pair =
            remote_.call("socketpair", SYS_socketpair,
                         {AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, (scratch + socketOffset).value});
        if (!pair) return tl::unexpected(pair.error());
        THERMOCLINE_TRY(remote_.read(scratch + socketOffset, std::as_writable_bytes(std::span(sockets_))));
        attachment_.footprint.passing.assign(sockets_.begin(), sockets_.end());
        note(attachment_);
        const auto ours = takeDescriptor(attachment_.process, sockets_[0]);
        if (!ours) return tl::unexpected(ours.error());

        char payload = 't';
        iovec vector{&payload, 1};
        const auto bytes = descriptors.size() * sizeof(int);
        Ancillary ancillary;
        msghdr message{};
        message.msg_iov = &vector;
        message.msg_iovlen = 1;
        message.msg_control = ancillary.data();
        message.msg_controllen = CMSG_SPACE(bytes);
        auto* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(bytes);
        std::memcpy(CMSG_DATA(header), descriptors.data(), bytes);
        if (::sendmsg(ours->get(), &message, MSG_NOSIGNAL) != 1)
            return failErrno("sendmsg to the VM's process");

        // The same structures once more, with addresses in the process.
        iovec remoteVector{reinterpret_cast<void*>((scratch + payloadOffset).value), 1};
        msghdr remoteMessage{};
        remoteMessage.msg_iov = reinterpret_cast<iovec*>((scratch + vectorOffset).value);
        remoteMessage.msg_iovlen = 1;
        remoteMessage.msg_control = reinterpret_cast<void*>((scratch + controlMessageOffset).value);
        remoteMessage.msg_controllen = ancillary.size();
        THERMOCLINE_TRY(put(remote_, scratch + vectorOffset, remoteVector));
        THERMOCLINE_TRY(put(remote_, scratch + messageOffset, remoteMessage));
        const auto taken = remote_.call("recvmsg", SYS_recvmsg,
                                        {static_cast<std::uint64_t>(sockets_[1]),
                                         (scratch + messageOffset).value, MSG_DONTWAIT | MSG_CMSG_CLOEXEC});
        if (!taken) return tl::unexpected(taken.error());
        THERMOCLINE_TRY(
            remote_.read(scratch + controlMessageOffset, std::as_writable_bytes(std::span(ancillary))));
        received_ = descriptorsIn(ancillary);
        if (received_.size() < 3)
            return fail(ErrorCode::notSupported,
                        "the VM's process did not receive our descriptors (a security module, such as "
                        "SELinux, refused?)");
        return {};
    }

    Result<void> newUserfault(int& number, UniqueFd& ours) {
        // From the device, not from the system call: it needs no privilege of the VM's process and no sysctl.
        const auto created = remote_.call(
            "USERFAULTFD_IOC_NEW", SYS_ioctl,
            {static_cast<std::uint64_t>(received_[0]), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK});
        if (!created) return tl::unexpected(created.error());
        number = static_cast<int>(*created);
        note(attachment_);
        auto taken = takeDescriptor(attachment_.process, number);
        if (!taken) return tl::unexpected(taken.error());
        ours = std::move(*taken);
        return {};
    }

    RemoteProcess& remote_;
    Attachment& attachment_;
    std::array<int, 2> sockets_{-1, -1};
    std::vector<int> received_;
};

/// Unmaps and closes what the footprint lists, on a stopped process.
Result<void> remove(RemoteProcess& remote, const Footprint& footprint) {
    Result<void> first;
    const auto keepFirst = [&](const auto& done) {
        if (!done && first) first = tl::unexpected(done.error());
    };
    // Descriptors first: the last close of a userfaultfd unregisters its ranges, and munmap of a range that
    // were still registered would wait for a reader of its UNMAP event.
    std::vector<int> descriptors{footprint.guestUffd, footprint.dropUffd, footprint.controlFd};
    descriptors.insert(descriptors.end(), footprint.kept.begin(), footprint.kept.end());
    descriptors.insert(descriptors.end(), footprint.passing.begin(), footprint.passing.end());
    for (const int fd : descriptors)
        if (fd >= 0) keepFirst(remote.call("close", SYS_close, {static_cast<std::uint64_t>(fd)}));
    for (const auto& range : {footprint.staging, footprint.control, footprint.code, footprint.scratch})
        if (range.bytes != 0) keepFirst(remote.call("munmap", SYS_munmap, {range.start.value, range.bytes}));
    return first;
}

/// Ends agent threads of an attach that came to nothing: they wait in their lanes and know the word.
void dismissAgents(const UniqueFd& control, const Footprint& footprint) {
    auto* lanes = static_cast<std::byte*>(::mmap(nullptr, laneCount * THERMOCLINE_LANE_BYTES,
                                                 PROT_READ | PROT_WRITE, MAP_SHARED, control.get(), 0));
    if (lanes == MAP_FAILED) return;
    for (std::size_t i = 0; i < laneCount; ++i) {
        if (footprint.threads[i] == 0) continue;
        auto* lane = reinterpret_cast<thermocline_lane*>(lanes + i * THERMOCLINE_LANE_BYTES);
        lane->operations[0].kind = THERMOCLINE_EXIT;
        lane->operation_count = 1;
        __atomic_store_n(&lane->request, 1U,
                         __ATOMIC_RELEASE);  // seen even if the agent has not started to wait
        syscall(SYS_futex, &lane->request, 1 /* FUTEX_WAKE */, 1, nullptr, nullptr, 0);
    }
    ::munmap(lanes, laneCount * THERMOCLINE_LANE_BYTES);
}

bool threadExists(pid_t pid, pid_t thread) {
    return thread != 0 && std::filesystem::exists(fmt::format("/proc/{}/task/{}", pid, thread));
}

Result<void> awaitThreadsEnd(const Footprint& footprint) {
    // Nothing announces the end of another process's thread to us; it is a few microseconds away.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    for (const auto thread : footprint.threads) {
        while (threadExists(footprint.pid, thread)) {
            if (std::chrono::steady_clock::now() > deadline)
                return fail(ErrorCode::busy,
                            fmt::format("agent thread {} of process {} has not left", thread, footprint.pid));
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    }
    return {};
}

/// The descriptors that come from outside of the process.
Result<void> openProcess(Attachment& attachment) {
    const auto pid = attachment.footprint.pid;
    attachment.process.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!attachment.process.valid())
        return failErrno(fmt::format("pidfd_open({})", pid), errno,
                         errno == ESRCH ? ErrorCode::processGone : ErrorCode::systemError);
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
    Infection infection(**remote, attachment);
    const auto infected = infection.run(device.get(), code->get(), blocks, keep);
    infection.closeReceived();
    if (!infected) {
        dismissAgents(attachment.control, attachment.footprint);
        (void)awaitThreadsEnd(attachment.footprint);
        (void)remove(**remote, attachment.footprint);
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
    for (const auto& [number, ours] : {std::pair(footprint.guestUffd, &attachment.guestUffd),
                                       std::pair(footprint.dropUffd, &attachment.dropUffd),
                                       std::pair(footprint.controlFd, &attachment.control)}) {
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
    const auto started = processStartTime(footprint.pid);
    if (!started || *started != footprint.startTime)
        return fail(ErrorCode::processGone, fmt::format("process {} has ended", footprint.pid));
    if (findAttachedDescriptor(footprint.pid) != footprint.controlFd)
        return fail(ErrorCode::notAttached,
                    fmt::format("process {} does not hold descriptor {}: cured already", footprint.pid,
                                footprint.controlFd));
    THERMOCLINE_TRY(awaitThreadsEnd(footprint));
    const auto remote = RemoteProcess::stop(footprint.pid);
    if (!remote) return tl::unexpected(remote.error());
    return remove(**remote, footprint);
}

void markFinished(const Attachment& attachment) {
    note(attachment, true);
}

Result<void> undoUnfinished(pid_t pid) {
    const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!process.valid()) return fail(ErrorCode::processGone, fmt::format("process {} has ended", pid));
    // Before it is looked at: a call of the dead one's may not even have begun.
    const auto remote = RemoteProcess::stop(pid);
    if (!remote) return tl::unexpected(remote.error());
    const auto number = findAttachedDescriptor(pid);
    if (!number) return {};
    const auto control = takeDescriptor(process, *number);
    if (!control) return tl::unexpected(control.error());
    std::string text(pageBytes, '\0');
    if (::pread(control->get(), text.data(), text.size(), noteOffset) != static_cast<ssize_t>(text.size()))
        return fail(ErrorCode::busy, fmt::format("process {} has no note of what was put into it", pid));
    text.resize(std::min(text.find('\0'), text.size()));  // whoever runs in the VM's process can write it
    Footprint footprint;
    try {
        const auto json = nlohmann::json::parse(text);
        json.get_to(footprint);
        if (json.at(finishedField).get<bool>())
            return fail(ErrorCode::busy,
                        fmt::format("process {} is attached, and its footprint is not here", pid));
    } catch (const nlohmann::json::exception& exception) {
        return fail(
            ErrorCode::systemError,
            fmt::format("the note of what was put into process {} is damaged: {}", pid, exception.what()));
    }
    const auto started = processStartTime(pid);
    if (footprint.pid != pid || !started || *started != footprint.startTime)
        return fail(ErrorCode::processGone, fmt::format("process {} has ended", footprint.pid));
    const bool received = footprint.controlFd >= 0;
    footprint.controlFd = *number;
    // The kernel has written down what the last recvmsg() or clone() made, if nobody else has.
    if (!received) {
        Ancillary ancillary;
        THERMOCLINE_TRY((*remote)->read(footprint.scratch.start + controlMessageOffset,
                                        std::as_writable_bytes(std::span(ancillary))));
        for (const int fd : descriptorsIn(ancillary))
            if (fd != *number) footprint.passing.push_back(fd);
    }
    for (std::size_t lane = 0; lane < laneCount; ++lane) {
        if (footprint.scratch.bytes == 0 || footprint.threads[lane] != 0) continue;
        THERMOCLINE_TRY((*remote)->read(footprint.scratch.start + threadOffset + lane * threadBytes,
                                        std::as_writable_bytes(std::span(&footprint.threads[lane], 1))));
    }
    dismissAgents(*control, footprint);
    THERMOCLINE_TRY(awaitThreadsEnd(footprint));
    return remove(**remote, footprint);
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
