// SPDX-License-Identifier: Apache-2.0
#include "memory/other_mappers.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "memory/process_map.h"

namespace thermocline::memory {
namespace {

struct FileId {
    std::string device;  ///< as in maps
    std::uint64_t inode = 0;
    friend bool operator==(const FileId&, const FileId&) = default;
};

Result<std::vector<Mapping>> mappingsOf(pid_t pid) {
    const auto text = readProcFile(fmt::format("/proc/{}/maps", pid));
    if (!text) return tl::unexpected(text.error());
    return parseMappings(*text);
}

bool overlap(const Mapping& mapping, const VmRange& range) {
    return mapping.range.start < range.end() && range.start < mapping.range.end();
}

/// Those that the process has mapped at `ranges`.
Result<std::vector<FileId>> filesOf(pid_t pid, const std::vector<VmRange>& ranges) {
    const auto mappings = mappingsOf(pid);
    if (!mappings) return tl::unexpected(mappings.error());
    std::vector<FileId> files;
    for (const auto& range : ranges) {
        const auto mapping = std::find_if(mappings->begin(), mappings->end(), [&](const Mapping& each) {
            return each.inode != 0 && overlap(each, range);
        });
        if (mapping == mappings->end())
            return fail(ErrorCode::notSupported,
                        fmt::format("process {} has no file mapped at {:#x}", pid, range.start.value));
        files.push_back({mapping->device, mapping->inode});
    }
    return files;
}

bool mayLookAtAll() {
    constexpr unsigned capSysPtrace = 19;
    const auto status = readProcFile("/proc/self/status");
    const auto at = status ? status->find("CapEff:\t") : std::string::npos;
    return at != std::string::npos &&
           (std::stoull(status->substr(at + 8, 16), nullptr, 16) >> capSysPtrace & 1) != 0;
}

/// `known`: mappings of guest RAM itself.
Result<bool> mapsAny(pid_t pid, const std::vector<FileId>& files, const std::vector<VmRange>& known) {
    const auto mappings = mappingsOf(pid);
    if (!mappings && mappings.error().code == ErrorCode::processGone) return false;
    if (!mappings && mappings.error().code == ErrorCode::permissionDenied && mayLookAtAll()) return false;
    if (!mappings) return tl::unexpected(mappings.error());
    return std::any_of(mappings->begin(), mappings->end(), [&](const Mapping& mapping) {
        const bool isGuestRam = std::any_of(known.begin(), known.end(),
                                            [&](const VmRange& range) { return overlap(mapping, range); });
        const FileId file{mapping.device, mapping.inode};
        return !isGuestRam && std::find(files.begin(), files.end(), file) != files.end();
    });
}

bool hasOpen(pid_t pid, const std::vector<FileId>& files) {
    std::error_code error;
    std::filesystem::directory_iterator entry(fmt::format("/proc/{}/fd", pid), error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        struct stat status {};
        if (::stat(entry->path().c_str(), &status) != 0) continue;  // closed meanwhile
        const FileId file{fmt::format("{:02x}:{:02x}", major(status.st_dev), minor(status.st_dev)),
                          status.st_ino};
        if (std::find(files.begin(), files.end(), file) != files.end()) return true;
    }
    return false;
}

}  // namespace

Result<std::optional<OtherMapper>> findOtherMapper(pid_t pid, const std::vector<VmRange>& guestRam,
                                                   pid_t except) {
    const auto files = filesOf(pid, guestRam);
    if (!files) return tl::unexpected(files.error());
    std::error_code error;
    std::filesystem::directory_iterator entry("/proc", error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        const auto name = entry->path().filename().string();
        pid_t other = 0;
        const auto [rest, status] = std::from_chars(name.data(), name.data() + name.size(), other);
        if (status != std::errc{} || rest != name.data() + name.size() || other == except) continue;
        const auto maps = mapsAny(other, *files, other == pid ? guestRam : std::vector<VmRange>());
        if (!maps) return tl::unexpected(maps.error());
        if (!*maps && (other == pid || !hasOpen(other, *files))) continue;
        auto command = readProcFile(fmt::format("/proc/{}/comm", other)).value_or("?\n");
        command.pop_back();
        return OtherMapper{other, std::move(command), *maps};
    }
    if (error) return fail(ErrorCode::systemError, fmt::format("/proc: {}", error.message()));
    return std::nullopt;
}

Result<void> refuseOtherMappers(pid_t pid, const std::vector<VmRange>& guestRam, pid_t except) {
    const auto found = findOtherMapper(pid, guestRam, except);
    if (!found) return tl::unexpected(found.error());
    if (!*found) return {};
    return fail(
        ErrorCode::notSupported,
        fmt::format("process {} ({}) has the guest's shared memory {} too, and would not see pages that "
                    "are taken out; remove vhost-user devices (virtiofs, DPDK) from the domain",
                    (*found)->pid, (*found)->command, (*found)->maps ? "mapped," : "open,"));
}

}  // namespace thermocline::memory
