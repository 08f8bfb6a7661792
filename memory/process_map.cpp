// SPDX-License-Identifier: Apache-2.0
#include "memory/process_map.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>

#include "common/unique_fd.h"

namespace thermocline::memory {
namespace {

std::string_view nextLine(std::string_view& text) {
    const auto end = text.find('\n');
    const auto line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    return line;
}

/// Takes the next blank-separated word off `line`.
std::string_view nextWord(std::string_view& line) {
    const auto begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) {
        line = {};
        return {};
    }
    const auto end = line.find_first_of(" \t", begin);
    const auto word = line.substr(begin, end == std::string_view::npos ? end : end - begin);
    line.remove_prefix(end == std::string_view::npos ? line.size() : end);
    return word;
}

template <typename Number>
bool parseNumber(std::string_view text, Number& value, int base = 10) {
    const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return status == std::errc{} && rest == text.data() + text.size();
}

/// "start-end perms offset dev inode path"; false where the line has another form.
bool parseHeader(std::string_view line, Mapping& mapping) {
    auto range = nextWord(line);
    const auto dash = range.find('-');
    if (dash == std::string_view::npos) return false;
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    if (!parseNumber(range.substr(0, dash), start, 16) || !parseNumber(range.substr(dash + 1), end, 16) ||
        end < start)
        return false;
    mapping.range = {{start}, end - start};
    mapping.permissions = nextWord(line);
    if (mapping.permissions.size() != 4) return false;
    if (!parseNumber(nextWord(line), mapping.fileOffset, 16)) return false;
    mapping.device = nextWord(line);
    if (!parseNumber(nextWord(line), mapping.inode)) return false;
    const auto path = line.find_first_not_of(" \t");  // the rest of the line: paths may hold blanks
    if (path != std::string_view::npos) mapping.path = line.substr(path);
    return true;
}

}  // namespace

bool Mapping::hasFlag(std::string_view flag) const {
    return vmFlags.find(fmt::format(" {} ", flag)) != std::string::npos;
}

Result<std::vector<Mapping>> parseMappings(std::string_view text) {
    std::vector<Mapping> mappings;
    while (!text.empty()) {
        const auto line = nextLine(text);
        if (line.empty()) continue;
        const auto name = line.substr(0, line.find(' '));
        if (!name.ends_with(':')) {
            Mapping mapping;
            if (!parseHeader(line, mapping))
                return fail(ErrorCode::systemError, fmt::format("cannot read the mapping \"{}\"", line));
            mappings.push_back(std::move(mapping));
            continue;
        }
        if (mappings.empty())
            return fail(ErrorCode::systemError, fmt::format("\"{}\" comes before any mapping", line));
        auto rest = line.substr(name.size());
        if (name == "VmFlags:") {
            mappings.back().vmFlags = " ";
            for (auto flag = nextWord(rest); !flag.empty(); flag = nextWord(rest))
                mappings.back().vmFlags.append(flag).push_back(' ');
        } else if (name == "Locked:") {
            std::uint64_t kib = 0;
            if (!parseNumber(nextWord(rest), kib))
                return fail(ErrorCode::systemError, fmt::format("cannot read \"{}\"", line));
            mappings.back().lockedBytes = kib * 1024;
        }
    }
    return mappings;
}

Result<std::string> readProcFile(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const auto error = [&] {
        switch (errno) {
            case ENOENT:
            case ESRCH:
                return failErrno(path, errno, ErrorCode::processGone);
            case EACCES:
            case EPERM:
                return failErrno(path, errno, ErrorCode::permissionDenied);
            default:
                return failErrno(path);
        }
    };
    if (!file.valid()) return error();
    std::string text;
    std::array<char, 65536> buffer;
    for (;;) {
        const auto n = ::read(file.get(), buffer.data(), buffer.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return error();
        if (n == 0) return text;
        text.append(buffer.data(), static_cast<std::size_t>(n));
    }
}

Result<std::vector<Mapping>> readMappings(pid_t pid) {
    const auto text = readProcFile(fmt::format("/proc/{}/smaps", pid));
    if (!text) return tl::unexpected(text.error());
    return parseMappings(*text);
}

std::uint64_t statusField(std::string_view statusText, std::string_view name) {
    while (!statusText.empty()) {
        auto line = nextLine(statusText);
        if (line.substr(0, name.size()) != name || line.substr(name.size(), 1) != ":") continue;
        line.remove_prefix(name.size() + 1);
        std::uint64_t kib = 0;
        return parseNumber(nextWord(line), kib) ? kib * 1024 : 0;
    }
    return 0;
}

namespace {

/// Field `number` (counted from 1, as in proc(5)) of the text of /proc/PID/stat; from the third on.
template <typename Number>
std::optional<Number> statField(std::string_view text, int number) {
    // The second field is the command in brackets and may hold anything.
    text.remove_prefix(std::min(text.rfind(')') + 1, text.size()));
    std::string_view field;
    for (int i = 3; i <= number; ++i)
        field = nextWord(text);
    Number value{};
    return parseNumber(field, value) ? std::optional(value) : std::nullopt;
}

std::optional<int> cpuIn(std::string_view stat) {
    const auto cpu = statField<int>(stat, 39);
    return cpu && *cpu >= 0 ? cpu : std::nullopt;
}

}  // namespace

Result<std::uint64_t> processStartTime(pid_t pid) {
    const auto path = fmt::format("/proc/{}/stat", pid);
    const auto text = readProcFile(path);
    if (!text) return tl::unexpected(text.error());
    if (const auto time = statField<std::uint64_t>(*text, 22)) return *time;
    return fail(ErrorCode::systemError, "cannot read " + path);
}

std::optional<int> LastCpu::of(pid_t thread) {
    std::array<char, 1024> text{};
    const auto read = [&] { return ::pread(stat_.get(), text.data(), text.size(), 0); };
    auto length = thread == thread_ ? read() : -1;
    if (length <= 0) {
        thread_ = thread;
        // The thread's own: that of its process adds up all threads' times first.
        stat_.reset(::open(fmt::format("/proc/{0}/task/{0}/stat", thread).c_str(), O_RDONLY | O_CLOEXEC));
        length = read();
    }
    return cpuIn({text.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0))});
}

bool isBoundToOneCpu(pid_t thread) {
    cpu_set_t allowed;
    return ::sched_getaffinity(thread, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) == 1;
}

}  // namespace thermocline::memory
