// SPDX-License-Identifier: Apache-2.0
#include "memory/support.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "common/unique_fd.h"
#include "memory/guest_ram.h"
#include "memory/kernel_abi.h"
#include "memory/process_memory.h"
#include "memory/userfault.h"

namespace thermocline::memory {
namespace {

/// A mapping of our own to try things on.
class TrialMapping {
  public:
    explicit TrialMapping(int protection, int fd = -1, int sharing = MAP_PRIVATE)
        : address_(::mmap(nullptr, pageBytes, protection, sharing | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0)) {}
    ~TrialMapping() {
        if (valid()) ::munmap(address_, pageBytes);
    }
    TrialMapping(const TrialMapping&) = delete;
    TrialMapping& operator=(const TrialMapping&) = delete;
    [[nodiscard]] bool valid() const { return address_ != MAP_FAILED; }
    [[nodiscard]] VmRange range() const { return {{reinterpret_cast<std::uint64_t>(address_)}, pageBytes}; }
    [[nodiscard]] std::byte* bytes() const { return static_cast<std::byte*>(address_); }

  private:
    void* address_;
};

Finding tryMove(const UniqueFd& device) {
    Finding finding{"UFFDIO_MOVE", false, "", "boot Linux 6.8 or newer (CONFIG_USERFAULTFD=y)"};
    Userfault uffd(UniqueFd(::ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)));
    if (uffd.fd() < 0) {
        finding.detail = std::string("USERFAULTFD_IOC_NEW: ") + std::strerror(errno);
        return finding;
    }
    const auto enabled = uffd.enable(guestFeatures(Mechanism::move));
    const TrialMapping from(PROT_READ | PROT_WRITE);
    const TrialMapping to(PROT_READ | PROT_WRITE);
    if (!enabled || !from.valid() || !to.valid() || !uffd.registerMissing(to.range())) {
        finding.detail = enabled ? "userfaultfd cannot be registered" : enabled.error().message;
        return finding;
    }
    from.bytes()[0] = std::byte{42};
    abi::UffdioMove move{to.range().start.value, from.range().start.value, pageBytes, 0, 0};
    finding.ok = ::ioctl(uffd.fd(), abi::uffdioMove, &move) == 0 && to.bytes()[0] == std::byte{42};
    finding.detail = finding.ok ? "a page was moved without copying" : std::strerror(errno);
    // No event of ours may wait for a reader when the trial mappings go.
    (void)uffd.unregister(to.range());
    return finding;
}

/// What takes the place of UFFDIO_MOVE where it is missing.
bool tryWriteProtection(const UniqueFd& device) {
    Userfault uffd(UniqueFd(::ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)));
    const TrialMapping trial(PROT_READ | PROT_WRITE);
    if (uffd.fd() < 0 || !trial.valid() || !uffd.enable(guestFeatures(Mechanism::copy)) ||
        !uffd.registerRange(trial.range(), guestRegisterModes(Mechanism::copy)))
        return false;
    const std::array<std::byte, pageBytes> page{std::byte{42}};
    std::size_t copied = 0;
    const bool works = uffd.copy(trial.range().start, page, copied) == Populate::done &&
                       uffd.protect(trial.range()) == Populate::done &&
                       uffd.unprotect(trial.range()) == Populate::done && trial.bytes()[0] == std::byte{42};
    (void)uffd.unregister(trial.range());
    return works;
}

/// Only guests with shared memory need it, so it is no reason against the others.
Finding trySharedMemory(const UniqueFd& device) {
    Finding finding{"shared memory", true, "", ""};
    Userfault uffd(UniqueFd(::ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)));
    const UniqueFd file(::memfd_create("thermocline-probe", MFD_CLOEXEC));
    const std::array<std::byte, pageBytes> page{std::byte{42}};
    const bool written = ::pwrite(file.get(), page.data(), page.size(), 0) == static_cast<ssize_t>(pageBytes);
    const TrialMapping trial(PROT_READ | PROT_WRITE, file.get(), MAP_SHARED);
    std::size_t mapped = 0;
    const bool works =
        uffd.fd() >= 0 && written && trial.valid() && uffd.enable(guestFeatures(Mechanism::unmap)) &&
        uffd.registerRange(trial.range(), guestRegisterModes(Mechanism::unmap)) &&
        uffd.mapFromFile(trial.range(), mapped) == Populate::done && trial.bytes()[0] == std::byte{42};
    // No event of ours may wait for a reader when the trial mapping goes.
    (void)uffd.unregister(trial.range());
    finding.detail = works ? "works, by unmapping: only with thermoclined --mechanism unmap, and never for "
                             "VMs with O_DIRECT disks or "
                             "vhost-user devices"
                           : "this kernel reports no minor faults of shared memory, so VMs that have it are "
                             "refused";
    return finding;
}

Finding tryPageMap() {
    Finding finding{"page map", false, "", "mount /proc, and run as root"};
    const TrialMapping trial(PROT_READ | PROT_WRITE);
    const ProcessMemory self(UniqueFd(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC)),
                             UniqueFd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)));
    const bool before = self.populated(trial.range().start);
    trial.bytes()[0] = std::byte{1};
    finding.ok = !before && self.populated(trial.range().start);
    finding.detail = finding.ok ? "works" : std::strerror(errno);
    return finding;
}

Finding tryPtrace() {
    Finding finding{"ptrace", false, "", ""};
    const auto scope = readProcFile("/proc/sys/kernel/yama/ptrace_scope");
    if (scope && scope->starts_with('3')) {
        finding.detail = "forbidden for everyone (kernel.yama.ptrace_scope = 3)";
        finding.fix = "set kernel.yama.ptrace_scope to 2 or less and reboot";
        return finding;
    }
    const auto status = readProcFile("/proc/self/status");
    const auto at = status ? status->find("CapEff:\t") : std::string::npos;
    const auto effective = at == std::string::npos ? 0 : std::stoull(status->substr(at + 8, 16), nullptr, 16);
    finding.ok = (effective >> 19 & 1) != 0;  // CAP_SYS_PTRACE
    finding.detail = finding.ok ? "CAP_SYS_PTRACE held" : "CAP_SYS_PTRACE is missing";
    if (!finding.ok) finding.fix = "run as root, or give the daemon CAP_SYS_PTRACE";
    return finding;
}

Finding tryExecutableMemfd() {
    Finding finding{"executable memfd", false, "", "set vm.memfd_noexec to 0 or 1"};
    const UniqueFd file(::memfd_create("thermocline-probe", MFD_CLOEXEC | 0x10 /* MFD_EXEC */));
    const UniqueFd plain(file.valid() ? -1 : ::memfd_create("thermocline-probe", MFD_CLOEXEC));
    const int fd = file.valid() ? file.get() : plain.get();
    finding.ok =
        fd >= 0 && ::ftruncate(fd, pageBytes) == 0 && TrialMapping(PROT_READ | PROT_EXEC, fd).valid();
    finding.detail = finding.ok ? "works" : std::strerror(errno);
    return finding;
}

}  // namespace

HostSupport probeHost(const std::string& userfaultfdDevice) {
    HostSupport support;
    utsname kernel{};
    ::uname(&kernel);
#if !defined(__x86_64__)
#error "the agent and the injection are written for x86-64"
#endif
    const UniqueFd device(::open(userfaultfdDevice.c_str(), O_RDWR | O_CLOEXEC));
    Finding open{"userfaultfd device", device.valid(), userfaultfdDevice + " on Linux " + kernel.release, ""};
    if (!open.ok) {
        open.detail += std::string(": ") + std::strerror(errno);
        open.fix = errno == ENOENT
                       ? "boot Linux 6.1 or newer with CONFIG_USERFAULTFD=y; in a container, pass " +
                             userfaultfdDevice
                       : "run as root, or let this user open " + userfaultfdDevice;
    }
    support.findings.push_back(open);
    if (open.ok) {
        auto move = tryMove(device);
        if (move.ok) {
            support.mechanism = Mechanism::move;
        } else if (tryWriteProtection(device)) {
            support.mechanism = Mechanism::copy;
            move = {"write-protection", true,
                    "works, in place of UFFDIO_MOVE, which this kernel lacks (Linux 6.8 has it): pages are "
                    "copied, which is slower, and refused to VMs with O_DIRECT disks",
                    ""};
        }
        support.findings.push_back(std::move(move));
        support.findings.push_back(trySharedMemory(device));
    }
    support.findings.push_back(tryPageMap());
    support.findings.push_back(tryPtrace());
    support.findings.push_back(tryExecutableMemfd());
    support.usable = true;
    for (auto& finding : support.findings) {
        if (finding.ok) finding.fix.clear();
        support.usable = support.usable && finding.ok;
    }
    if (!support.usable) support.mechanism.reset();
    return support;
}

Result<GuestSupport> probeGuest(pid_t pid, std::optional<Mechanism> mechanism,
                                const std::string& userfaultfdDevice) {
    const bool takesShared = mechanism == Mechanism::unmap;
    if (!mechanism || takesShared) mechanism = probeHost(userfaultfdDevice).mechanism;
    if (!mechanism)
        return fail(ErrorCode::notSupported,
                    "this host cannot overcommit; run thermoctl doctor for what it lacks");
    const auto ram =
        discoverGuestRam(pid, *mechanism, takesShared ? SharedMemory::take : SharedMemory::refuse);
    GuestSupport support;
    if (ram) {
        support.usable = true;
        support.mechanism = mechanismName(ram->mechanism);
        support.memoryBytes = ram->bytes();
        return support;
    }
    if (ram.error().code != ErrorCode::notSupported && ram.error().code != ErrorCode::alreadyAttached)
        return tl::unexpected(ram.error());
    support.mechanism = "none";
    // discoverGuestRam's messages read "what is wrong; what to do".
    const auto& message = ram.error().message;
    const auto semicolon = message.find("; ");
    support.reason = message.substr(0, semicolon);
    if (semicolon != std::string::npos) support.fix = message.substr(semicolon + 2);
    return support;
}

}  // namespace thermocline::memory
