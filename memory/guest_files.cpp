// SPDX-License-Identifier: Apache-2.0
#include "memory/guest_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "memory/address_map.h"
#include "memory/process_map.h"

namespace thermocline::memory {

namespace {

/// Of the mapping's file: by a descriptor of the process, or where it has none (anonymous memory that is
/// shared) by the mapping, which takes CAP_CHECKPOINT_RESTORE.
std::string pathOf(pid_t pid, const Mapping& mapping) {
    std::error_code error;
    std::filesystem::directory_iterator entry(fmt::format("/proc/{}/fd", pid), error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        struct stat status {};
        if (::stat(entry->path().c_str(), &status) == 0 && status.st_ino == mapping.inode &&
            mapping.device == fmt::format("{:02x}:{:02x}", major(status.st_dev), minor(status.st_dev)))
            return entry->path();
    }
    return fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, mapping.range.start.value,
                       mapping.range.end().value);
}

}  // namespace

Result<GuestFiles> GuestFiles::open(pid_t pid, const std::vector<VmRange>& ranges) {
    const auto mappings = readMappings(pid);
    if (!mappings) return tl::unexpected(mappings.error());
    const AddressMap addresses(ranges);
    GuestFiles files;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        const auto& range = ranges[i];
        const auto mapping = std::find_if(mappings->begin(), mappings->end(),
                                          [&](const Mapping& each) { return each.range == range; });
        if (mapping == mappings->end() || !mapping->sharedWritable())
            return fail(ErrorCode::notSupported,
                        fmt::format("process {} has no shared file mapped at {:#x}", pid, range.start.value));
        const auto path = pathOf(pid, *mapping);
        UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        if (!file.valid())
            return failErrno(path, errno,
                             errno == ENOENT ? ErrorCode::processGone : ErrorCode::permissionDenied);
        const int seals = ::fcntl(file.get(), F_GET_SEALS);
        if (seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0)
            return fail(
                ErrorCode::notSupported,
                fmt::format("{} is sealed against writing, so no page of it can be freed", mapping->path));
        const auto& extent = addresses.extents()[i];
        files.parts_.push_back({std::move(file), extent.first, extent.pages, mapping->fileOffset});
    }
    return files;
}

Result<GuestFiles::Place> GuestFiles::placeOf(PageNumber first, std::uint64_t count) const {
    for (const auto& part : parts_)
        if (first >= part.first && first + count <= part.first + part.pages)
            return Place{part.file.get(), static_cast<off_t>(part.offset + (first - part.first) * pageBytes)};
    return fail(ErrorCode::systemError, fmt::format("pages {}+{} are in no file", first, count));
}

Result<void> GuestFiles::read(PageNumber first, std::span<std::byte> into) const {
    const auto place = placeOf(first, into.size() / pageBytes);
    if (!place) return tl::unexpected(place.error());
    const auto n = ::pread(place->file, into.data(), into.size(), place->offset);
    if (n == static_cast<ssize_t>(into.size())) return {};
    return failErrno(fmt::format("reading page {} of guest RAM's file", first), n < 0 ? errno : EIO);
}

Result<void> GuestFiles::write(PageNumber first, std::span<const std::byte> bytes) const {
    const auto place = placeOf(first, bytes.size() / pageBytes);
    if (!place) return tl::unexpected(place.error());
    const auto n = ::pwrite(place->file, bytes.data(), bytes.size(), place->offset);
    if (n == static_cast<ssize_t>(bytes.size())) return {};
    return failErrno(fmt::format("writing page {} of guest RAM's file", first), n < 0 ? errno : EIO);
}

Result<void> GuestFiles::punch(PageNumber first, std::uint64_t count) const {
    const auto place = placeOf(first, count);
    if (!place) return tl::unexpected(place.error());
    constexpr int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    while (::fallocate(place->file, mode, place->offset, static_cast<off_t>(count * pageBytes)) != 0)
        if (errno != EINTR) return failErrno(fmt::format("freeing page {} of guest RAM's file", first));
    return {};
}

Result<void> GuestFiles::forEachPage(PageNumber first, std::uint64_t count,
                                     const std::function<void(PageNumber, std::uint64_t)>& found) const {
    const auto place = placeOf(first, count);
    if (!place) return tl::unexpected(place.error());
    const auto end = place->offset + static_cast<off_t>(count * pageBytes);
    for (auto at = place->offset; at < end;) {
        const auto data = ::lseek(place->file, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) return {};  // none behind `at`
        const auto hole = data < 0 ? data : ::lseek(place->file, data, SEEK_HOLE);
        if (hole < 0) return failErrno("looking for pages in guest RAM's file");
        const auto stop = std::min(hole, end);
        if (data >= end) return {};
        found(first + static_cast<std::uint64_t>(data - place->offset) / pageBytes,
              static_cast<std::uint64_t>(stop - data) / pageBytes);
        at = stop;
    }
    return {};
}

}  // namespace thermocline::memory
