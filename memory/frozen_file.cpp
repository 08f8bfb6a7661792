// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <string_view>
#include <utility>

namespace thermocline::memory {
namespace {

/// The file's size grows this much ahead of its content: a write that extends the file makes ext4 take the
/// inode's lock alone, and reads would wait for it.
constexpr std::uint64_t growth = 16U << 20;
constexpr std::uint64_t sectorBytes = 4096;

std::string nameIn(const std::string& directory) {
    return "the file tier's file in " + directory;
}

int openFile(const FrozenSeams& seams, const std::string& path, int flags) {
    constexpr mode_t mode = 0600;
    const int all = O_RDWR | O_CLOEXEC | flags;
    return seams.open ? seams.open(path.c_str(), all, mode) : ::open(path.c_str(), all, mode);
}

/// A file without a name, so that it is gone with us whatever happens.
Result<UniqueFd> openUnnamed(const std::string& directory, bool allowBuffered, const FrozenSeams& seams) {
    const int direct = allowBuffered ? 0 : O_DIRECT;
    const std::string where = nameIn(directory);
    const auto noDirect = [&](std::string_view why) {
        return fail(
            ErrorCode::notSupported,
            fmt::format(
                "{}: {}; name a directory on a disk whose file system has O_DIRECT (ext4, xfs, btrfs)", where,
                why));
    };
    UniqueFd file(openFile(seams, directory, O_TMPFILE | O_EXCL | direct));
    if (!file.valid() && (errno == EOPNOTSUPP || errno == EISDIR)) {
        std::uint64_t random = 0;
        if (::getrandom(&random, sizeof random, 0) != sizeof random) return failErrno("getrandom");
        const auto path = fmt::format("{}/.thermocline-{:016x}", directory, random);
        file.reset(openFile(seams, path, O_CREAT | O_EXCL | O_NOFOLLOW | direct));
        const int error = errno;
        // Where O_DIRECT is refused, the file has been made all the same.
        if (::unlink(path.c_str()) != 0 && file.valid()) return failErrno("unlink of " + path);
        errno = error;
    }
    if (!file.valid() && (errno == ENOENT || errno == ENOTDIR))
        return fail(
            ErrorCode::invalidArgument,
            fmt::format("{}: there is no such directory; make it, on a disk, or name another", where));
    if (!file.valid() && errno == EINVAL && direct != 0) return noDirect("there is no O_DIRECT");
    if (!file.valid())
        return failErrno(
            where, errno,
            errno == EACCES || errno == EPERM ? ErrorCode::permissionDenied : ErrorCode::systemError);
    struct statfs fileSystem {};
    if (::fstatfs(file.get(), &fileSystem) != 0) return failErrno("fstatfs of " + where);
    // tmpfs takes O_DIRECT and ignores it: what were written there would be in memory, as before.
    if (direct != 0 && (fileSystem.f_type == TMPFS_MAGIC || fileSystem.f_type == RAMFS_MAGIC))
        return noDirect("that is memory, without O_DIRECT");
    return file;
}

Result<FrozenFile::Identity> identityOf(int file, const std::string& name) {
    struct statx info {};
    if (::statx(file, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &info) != 0)
        return failErrno("statx of " + name);
    if (!S_ISREG(info.stx_mode) || info.stx_nlink != 0)
        return fail(ErrorCode::notSupported, name + " is not the one that it was");
    FrozenFile::Identity identity;
    identity.device = std::uint64_t{info.stx_dev_major} << 32 | info.stx_dev_minor;
    identity.inode = info.stx_ino;
    if ((info.stx_mask & STATX_BTIME) != 0)
        identity.bornNanoseconds = info.stx_btime.tv_sec * 1'000'000'000 + info.stx_btime.tv_nsec;
    return identity;
}

/// The same file once more, with other rights.
UniqueFd reopen(int file, int flags) {
    return UniqueFd(::open(fmt::format("/proc/self/fd/{}", file).c_str(), flags | O_CLOEXEC));
}

}  // namespace

Result<FrozenFile::Identity> FrozenFile::identity() const {
    return identityOf(file_.get(), name_);
}

Result<UniqueFd> FrozenFile::toKeep() const {
    auto file = reopen(file_.get(), O_RDONLY);
    if (!file.valid()) return failErrno("opening " + name_ + " for reading");
    return file;
}

Result<std::unique_ptr<FrozenFile>> FrozenFile::take(UniqueFd kept, const Identity& identity,
                                                     bool allowBuffered, FrozenSeams seams) {
    const std::string name = "the file tier's file";
    // Before it is opened for writing: what was kept by the VM's process may be anything that it can read.
    const auto found = identityOf(kept.get(), name);
    if (!found) return tl::unexpected(found.error());
    if (*found != identity) return fail(ErrorCode::notSupported, name + " is not the one that it was");
    auto file = reopen(kept.get(), O_RDWR | (allowBuffered ? 0 : O_DIRECT));
    if (!file.valid()) return failErrno("opening " + name + " again");
    struct stat info {};
    if (::fstat(file.get(), &info) != 0) return failErrno("fstat of " + name);
    std::unique_ptr<FrozenFile> taken(new FrozenFile(std::move(file), name, std::move(seams)));
    taken->size_ = static_cast<std::uint64_t>(info.st_size);
    return taken;
}

void FrozenFile::awaitWrites(std::uint64_t end) {
    if (end > size_ || !growTo(end + sectorBytes)) return;
    // A hole is punched only when no direct I/O of the file is under way.
    (void)giveBack(size_ - sectorBytes, sectorBytes);
}

Result<std::unique_ptr<FrozenFile>> FrozenFile::create(const std::string& directory, bool allowBuffered,
                                                       FrozenSeams seams) {
    auto file = openUnnamed(directory, allowBuffered, seams);
    if (!file) return tl::unexpected(std::move(file).error());
    return std::unique_ptr<FrozenFile>(new FrozenFile(std::move(*file), nameIn(directory), std::move(seams)));
}

Result<void> FrozenFile::growTo(std::uint64_t end) {
    if (end <= size_) return {};
    const auto size = (end + growth - 1) / growth * growth;
    if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) return failErrno("growing " + name_);
    size_ = size;
    return {};
}

Result<void> FrozenFile::empty() {
    if (::ftruncate(file_.get(), 0) != 0) return failErrno("emptying " + name_);
    size_ = 0;
    return {};
}

bool FrozenFile::giveBack(std::uint64_t offset, std::uint64_t bytes) {
    return ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                       static_cast<off_t>(bytes)) == 0;
}

Result<void> FrozenFile::read(std::uint64_t offset, std::span<std::byte> into) const {
    ssize_t got = 0;
    do {
        got = ::pread(file_.get(), into.data(), into.size(), static_cast<off_t>(offset));
    } while (got < 0 && errno == EINTR);
    const int result = seen(false, offset, got < 0 ? -errno : static_cast<int>(got));
    if (result < 0) return failErrno("reading " + name_, -result);
    if (static_cast<std::size_t>(result) < into.size())
        return fail(ErrorCode::systemError, name_ + " ends within a record");
    return {};
}

int FrozenFile::seen(bool write, std::uint64_t offset, int result) const {
    return seams_.ioDone ? seams_.ioDone(write, offset, result) : result;
}

}  // namespace thermocline::memory
