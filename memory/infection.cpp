// SPDX-License-Identifier: Apache-2.0
#include "memory/infection.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <thread>
#include <utility>

#include "memory/attachment.h"
#include "memory/process_map.h"
#include "memory/remote_process.h"

extern "C" {
extern const std::byte thermoclineAgentImage[];
extern const std::byte thermoclineAgentImageEnd[];
}

namespace thermocline::memory {
namespace {

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

class Infection {
  public:
    Infection(RemoteProcess& remote, Attachment& attachment) : remote_(remote), attachment_(attachment) {}

    Result<void> run(int userfaultfdDevice, int code, std::uint64_t blocks, const std::vector<int>& keep) {
        auto& f = attachment_.footprint;
        auto scratch = map(f.scratch, scratchBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        if (!scratch) return scratch;
        std::vector<int> descriptors{userfaultfdDevice, code, attachment_.control.get()};
        descriptors.insert(descriptors.end(), keep.begin(), keep.end());
        THERMOCLINE_TRY(handOver(descriptors));
        f.controlFd = received_[2];
        f.kept.assign(received_.begin() + 3, received_.end());
        f.passing.insert(f.passing.end(), received_.begin(), received_.begin() + 2);
        note();
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
            note();
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
    void note() { writeNote(attachment_.control, {attachment_.footprint}); }
    Result<void> map(VmRange& range, std::uint64_t bytes, int protection, int flags, int fd) {
        const auto address =
            remote_.call("mmap", SYS_mmap,
                         {0, bytes, static_cast<std::uint64_t>(protection), static_cast<std::uint64_t>(flags),
                          static_cast<std::uint64_t>(static_cast<std::int64_t>(fd)), 0});
        if (!address) return tl::unexpected(address.error());
        range = {{*address}, bytes};
        note();
        return {};
    }
    /// What is only passing.
    void close(int& fd) {
        if (fd < 0) return;
        // First: it must not be closed again when another file has that number.
        std::erase(attachment_.footprint.passing, fd);
        note();
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
        note();
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
        note();
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

bool threadExists(pid_t pid, pid_t thread) {
    return thread != 0 && std::filesystem::exists(fmt::format("/proc/{}/task/{}", pid, thread));
}

}  // namespace

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

Result<void> infect(RemoteProcess& remote, Attachment& attachment, int userfaultfdDevice, int code,
                    std::uint64_t blocks, const std::vector<int>& keep) {
    Infection infection(remote, attachment);
    auto infected = infection.run(userfaultfdDevice, code, blocks, keep);
    infection.closeReceived();
    return infected;
}

void writeNote(const UniqueFd& control, const Note& note) {
    auto footprint = note.footprint;
    footprint.guestRam.clear();
    nlohmann::json json = footprint;
    json[finishedField] = note.finished;
    const auto text = json.dump();
    std::array<char, pageBytes> page{};
    if (text.size() >= page.size()) return;
    std::copy(text.begin(), text.end(), page.begin());
    (void)!::pwrite(control.get(), page.data(), page.size(), noteOffset);
}

Result<Note> readNote(const UniqueFd& control) {
    std::string text(pageBytes, '\0');
    if (::pread(control.get(), text.data(), text.size(), noteOffset) != static_cast<ssize_t>(text.size()))
        return fail(ErrorCode::busy, "the VM's process has no note of what was put into it");
    text.resize(std::min(text.find('\0'), text.size()));
    Note note;
    try {
        const auto json = nlohmann::json::parse(text);
        json.get_to(note.footprint);
        json.at(finishedField).get_to(note.finished);
    } catch (const nlohmann::json::exception& exception) {
        return fail(
            ErrorCode::systemError,
            fmt::format("the note of what was put into the VM's process is damaged: {}", exception.what()));
    }
    return note;
}

Result<void> addUnnoted(RemoteProcess& remote, Footprint& footprint, int controlFd) {
    const auto scratch = footprint.scratch;
    if (footprint.controlFd < 0) {
        Ancillary ancillary;
        THERMOCLINE_TRY(
            remote.read(scratch.start + controlMessageOffset, std::as_writable_bytes(std::span(ancillary))));
        for (const int fd : descriptorsIn(ancillary))
            if (fd != controlFd) footprint.passing.push_back(fd);
        footprint.controlFd = controlFd;
    }
    for (std::size_t lane = 0; lane < laneCount; ++lane) {
        if (scratch.bytes == 0 || footprint.threads[lane] != 0) continue;
        THERMOCLINE_TRY(remote.read(scratch.start + threadOffset + lane * threadBytes,
                                    std::as_writable_bytes(std::span(&footprint.threads[lane], 1))));
    }
    return {};
}

Result<void> takeOut(RemoteProcess& remote, Note note, const UniqueFd& control) {
    auto& footprint = note.footprint;
    Result<void> first;
    // Out of the note before it goes: a number or a range may be something else by the time that whoever
    // comes after us looks.
    const auto call = [&](const char* what, long number, std::initializer_list<std::uint64_t> arguments) {
        writeNote(control, note);
        const auto done = remote.call(what, number, arguments);
        if (!done && first) first = tl::unexpected(done.error());
    };
    const auto close = [&](int fd) {
        if (fd >= 0) call("close", SYS_close, {static_cast<std::uint64_t>(fd)});
    };
    // Descriptors first: the last close of a userfaultfd unregisters its ranges, and munmap of a range that
    // were still registered would wait for a reader of its UNMAP event.
    close(std::exchange(footprint.guestUffd, -1));
    close(std::exchange(footprint.dropUffd, -1));
    for (auto* descriptors : {&footprint.kept, &footprint.passing}) {
        while (!descriptors->empty()) {
            const int fd = descriptors->back();
            descriptors->pop_back();
            close(fd);
        }
    }
    for (auto* mapping : {&footprint.staging, &footprint.control, &footprint.code, &footprint.scratch}) {
        const auto range = std::exchange(*mapping, {});
        if (range.bytes != 0) call("munmap", SYS_munmap, {range.start.value, range.bytes});
    }
    close(footprint.controlFd);  // by which the note is found
    return first;
}

}  // namespace thermocline::memory
