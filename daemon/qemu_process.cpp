// SPDX-License-Identifier: Apache-2.0
#include "daemon/qemu_process.h"

#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>

namespace thermocline {
namespace {

std::optional<pid_t> parsePid(std::string_view text) {
    pid_t pid = 0;
    const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), pid);
    if (status != std::errc{} || pid <= 0) return std::nullopt;
    return pid;
}

std::string readFile(const std::filesystem::path& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}

}  // namespace

QemuProcesses::QemuProcesses(std::filesystem::path pidFileDirectory, std::filesystem::path proc)
    : pidFileDirectory_(std::move(pidFileDirectory)), proc_(std::move(proc)) {}

bool QemuProcesses::matches(pid_t pid, const std::string& uuid) const {
    const std::string commandLine = readFile(proc_ / std::to_string(pid) / "cmdline");
    // Whole arguments only: the UUID may also stand inside a file's name.
    std::string_view rest = commandLine;
    bool isNext = false;
    while (!rest.empty()) {
        const std::string_view argument = rest.substr(0, rest.find('\0'));
        if (isNext && argument == uuid) return true;
        isNext = argument == "-uuid";
        rest.remove_prefix(std::min(rest.size(), argument.size() + 1));
    }
    return false;
}

Result<pid_t> QemuProcesses::find(const std::string& uuid, const std::string& name) const {
    // libvirt forbids '/' in names; should one come by, it must not lead out of the directory.
    if (name.find('/') == std::string::npos)
        if (const auto pid = parsePid(readFile(pidFileDirectory_ / (name + ".pid")));
            pid && matches(*pid, uuid))
            return *pid;

    std::optional<pid_t> found;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(proc_, ignored)) {
        const auto pid = parsePid(entry.path().filename().string());
        if (!pid || !matches(*pid, uuid)) continue;
        if (found)
            return fail(
                ErrorCode::systemError,
                fmt::format("domain {}: processes {} and {} both claim its UUID {}; end the wrong one", name,
                            *found, *pid, uuid));
        found = pid;
    }
    if (!found)
        return fail(ErrorCode::processGone,
                    fmt::format("domain {}: no process has -uuid {} on its command line", name, uuid));
    return *found;
}

Result<std::uint64_t> QemuProcesses::startTime(pid_t pid) const {
    const std::string stat = readFile(proc_ / std::to_string(pid) / "stat");
    // The second field is the command in parentheses and may
    // hold anything; fields are counted from its end on.
    const auto end = stat.rfind(')');
    if (end == std::string::npos)
        return fail(ErrorCode::processGone, fmt::format("process {} is not there", pid));
    std::istringstream fields(stat.substr(end + 1));
    std::string field;
    constexpr int startTimeAfterCommand = 20;  // field 22 of proc(5)
    for (int i = 0; i < startTimeAfterCommand; ++i)
        fields >> field;
    std::uint64_t ticks = 0;
    if (std::from_chars(field.data(), field.data() + field.size(), ticks).ec != std::errc{})
        return fail(ErrorCode::systemError, fmt::format("/proc/{}/stat is not understood", pid));
    return ticks;
}

}  // namespace thermocline
