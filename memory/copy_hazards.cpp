// SPDX-License-Identifier: Apache-2.0
#include "memory/copy_hazards.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <filesystem>

#include "memory/process_map.h"

namespace thermocline::memory {
namespace {

/// What is the matter, and what to do about it, besides removing the hazard.
struct Wording {
    const char* matter;
    const char* instead;
};
Wording wordingFor(Mechanism mechanism) {
    if (mechanism == Mechanism::unmap)
        return {"the pages of shared memory can only be unmapped",
                "give the domain private memory (no <access mode='shared'/> in <memoryBacking>)"};
    return {"this kernel cannot move pages without copying",
            "boot Linux 6.8 or newer, which moves pages without copying"};
}

/// The first file that the process has open with O_DIRECT; empty where there is none.
Result<std::string> directFile(pid_t pid) {
    const auto directory = fmt::format("/proc/{}/fdinfo", pid);
    std::error_code error;
    std::filesystem::directory_iterator entry(directory, error);
    if (error)
        return fail(
            error == std::errc::permission_denied ? ErrorCode::permissionDenied : ErrorCode::processGone,
            fmt::format("{}: {}", directory, error.message()));
    for (; entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        const auto text = readProcFile(entry->path().string());
        if (!text) continue;  // closed meanwhile
        const auto at = text->find("flags:\t");
        if (at == std::string::npos || (std::stoul(text->substr(at + 7), nullptr, 8) & O_DIRECT) == 0)
            continue;
        std::error_code gone;
        const auto name = std::filesystem::read_symlink(
            fmt::format("/proc/{}/fd/{}", pid, entry->path().filename().string()), gone);
        return gone ? std::string("a file") : name.string();
    }
    return std::string();
}

}  // namespace

Result<void> refuseCopying(const QemuCommandLine& commandLine, const std::string& nested,
                           Mechanism mechanism) {
    const auto [matter, instead] = wordingFor(mechanism);
    if (!commandLine.memoryDevice.empty())
        return fail(ErrorCode::notSupported,
                    fmt::format("memory device {} can be unplugged, and {}; remove it from the domain, or {}",
                                commandLine.memoryDevice, matter, instead));
    if (!commandLine.kernelDevice.empty())
        return fail(
            ErrorCode::notSupported,
            fmt::format("device {} writes into the guest's memory unseen, and {}; use virtio-scsi, or {}",
                        commandLine.kernelDevice, matter, instead));
    const bool nestedHost = nested.starts_with('Y') || nested.starts_with('1');
    if (commandLine.kvm && nestedHost && !commandLine.nestingOff)
        return fail(ErrorCode::notSupported,
                    fmt::format("the guest may run guests of its own, and {}; disable the CPU feature vmx or "
                                "svm in the domain, load the KVM module with nested=0, or {}",
                                matter, instead));
    return {};
}

Result<void> refuseCopying(pid_t pid, const QemuCommandLine& commandLine, Mechanism mechanism) {
    std::string nested;
    for (const char* module : {"kvm_intel", "kvm_amd"})
        if (const auto text = readProcFile(fmt::format("/sys/module/{}/parameters/nested", module)))
            nested = *text;
    THERMOCLINE_TRY(refuseCopying(commandLine, nested, mechanism));
    const auto [matter, instead] = wordingFor(mechanism);
    const auto file = directFile(pid);
    if (!file) return tl::unexpected(file.error());
    if (!file->empty())
        return fail(
            ErrorCode::notSupported,
            fmt::format("{} is open with O_DIRECT, and {}, which would lose what a disk is just writing into "
                        "them; use another cache mode than none and directsync, or {}",
                        *file, matter, instead));
    return {};
}

}  // namespace thermocline::memory
