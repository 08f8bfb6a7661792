// SPDX-License-Identifier: Apache-2.0
#include "daemon/runtime_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

namespace thermocline {
namespace {

constexpr const char* recordFileName = "domain.json";
constexpr const char* lockFileName = "lock";
constexpr const char* domainsName = "domain";

Result<void> makeDirectory(const std::filesystem::path& path) {
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
        return failErrno("make directory " + path.string());
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) return failErrno("look at " + path.string());
    // Whoever owns this directory can pose as a manager: do not use one that somebody else prepared.
    if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid())
        return fail(ErrorCode::permissionDenied,
                    fmt::format("{} is not a directory of our own user; remove it", path.string()));
    if (::chmod(path.c_str(), 0700) != 0) return failErrno("chmod 0700 " + path.string());
    return {};
}

Result<bool> mountWhereNeeded(const std::filesystem::path& path) {
    struct statfs info {};
    if (::statfs(path.c_str(), &info) != 0) return failErrno("statfs " + path.string());
    if (info.f_type == TMPFS_MAGIC) return false;
    constexpr unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (::mount("thermocline", path.c_str(), "tmpfs", flags, "mode=0700,size=100%,noswap") == 0) return true;
    if (errno == EINVAL && ::mount("thermocline", path.c_str(), "tmpfs", flags, "mode=0700,size=100%") == 0)
        return true;
    return failErrno(fmt::format(
        "{} is not in memory and no tmpfs can be mounted on it (give --runtime-dir a directory on "
        "a tmpfs)",
        path.string()));
}

}  // namespace

Result<RuntimeDirectory> RuntimeDirectory::open(std::filesystem::path path) {
    THERMOCLINE_TRY(makeDirectory(path));
    auto mounted = mountWhereNeeded(path);
    if (!mounted) return tl::unexpected<Error>(mounted.error());
    RuntimeDirectory directory(std::move(path), *mounted);
    THERMOCLINE_TRY(directory.lock());
    THERMOCLINE_TRY(makeDirectory(directory.path_ / domainsName));
    return directory;
}

RuntimeDirectory::RuntimeDirectory(RuntimeDirectory&& other) noexcept
    : path_(std::move(other.path_)),
      mounted_(std::exchange(other.mounted_, false)),
      lock_(std::move(other.lock_)) {}

RuntimeDirectory::~RuntimeDirectory() {
    if (!mounted_) return;
    std::error_code error;
    const auto domainsPath = path_ / domainsName;
    if (!std::filesystem::is_empty(domainsPath, error) || error) {
        spdlog::info("leaving {} mounted: managers still run", path_.string());
        return;
    }
    lock_.reset();
    if (::umount2(path_.c_str(), UMOUNT_NOFOLLOW) != 0)
        spdlog::warn("cannot unmount {}: {}", path_.string(),
                     std::error_code(errno, std::generic_category()).message());
}

Result<void> RuntimeDirectory::lock() {
    const auto file = path_ / lockFileName;
    lock_.reset(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock_.valid()) return failErrno("open " + file.string());
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) return failErrno("lock " + file.string());
        // The mount that we made on top cannot be the other daemon's, so mounted_ is false here.
        return fail(ErrorCode::alreadyRunning,
                    fmt::format("another thermoclined uses {}; stop it first, or give this one "
                                "a --runtime-dir and a --bus of its own",
                                path_.string()));
    }
    return {};
}

std::filesystem::path RuntimeDirectory::domainDirectory(const std::string& uuid) const {
    return path_ / domainsName / uuid;
}

Result<std::filesystem::path> RuntimeDirectory::createDomain(const DomainRecord& record) const {
    THERMOCLINE_TRY(removeDomain(record.uuid));
    auto directory = domainDirectory(record.uuid);
    THERMOCLINE_TRY(makeDirectory(directory));
    const auto file = directory / recordFileName;
    std::ofstream stream(file);
    const nlohmann::json json{
        {"uuid", record.uuid}, {"name", record.name}, {"pid", record.pid}, {"start_time", record.startTime}};
    stream << json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    stream.close();
    if (!stream) return fail(ErrorCode::systemError, fmt::format("cannot write {}", file.string()));
    return directory;
}

Result<void> RuntimeDirectory::removeDomain(const std::string& uuid) const {
    std::error_code error;
    const auto directory = domainDirectory(uuid);
    std::filesystem::remove_all(directory, error);
    if (error) return failErrno("remove " + directory.string(), error.value());
    return {};
}

std::vector<DomainRecord> RuntimeDirectory::domains() const {
    std::vector<DomainRecord> records;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(path_ / domainsName, error)) {
        DomainRecord record{entry.path().filename().string(), "", 0, 0};
        try {
            const auto json = nlohmann::json::parse(std::ifstream(entry.path() / recordFileName));
            json.at("name").get_to(record.name);
            json.at("pid").get_to(record.pid);
            json.at("start_time").get_to(record.startTime);
        } catch (const nlohmann::json::exception& problem) {
            spdlog::warn("{}: no usable {}: {}", entry.path().string(), recordFileName, problem.what());
        }
        records.push_back(std::move(record));
    }
    return records;
}

}  // namespace thermocline
