// SPDX-License-Identifier: Apache-2.0
#include "memory/policy_plugin.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

namespace thermocline::memory {
namespace {

constexpr std::size_t longestName = 64;

Result<void> rootsAlone(const std::filesystem::path& path, mode_t kind, const char* kindName) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return failErrno(path.string());
    if ((info.st_mode & S_IFMT) != kind)
        return fail(ErrorCode::permissionDenied, fmt::format("{} is not a {}", path.string(), kindName));
    if (info.st_uid != 0)
        return fail(ErrorCode::permissionDenied,
                    fmt::format("{} belongs to user {}, not to root", path.string(), info.st_uid));
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return fail(ErrorCode::permissionDenied,
                    fmt::format("{} is writable by others than root: chmod go-w", path.string()));
    return {};
}

/// `file` with no symbolic link left in it.
Result<std::filesystem::path> checked(const std::filesystem::path& file,
                                      const std::filesystem::path& directory) {
    if (!file.is_absolute())
        return fail(ErrorCode::permissionDenied, fmt::format("{} is not an absolute path", file.string()));
    std::error_code error;
    const auto path = std::filesystem::canonical(file, error);
    if (error) return failErrno(file.string(), error.value());
    const auto folder = std::filesystem::canonical(directory, error);
    if (error) return failErrno(directory.string(), error.value());
    if (path.parent_path() != folder)
        return fail(ErrorCode::permissionDenied, fmt::format("{} is not in {}, where policies have to be",
                                                             path.string(), folder.string()));
    THERMOCLINE_TRY(rootsAlone(folder, S_IFDIR, "directory"));
    THERMOCLINE_TRY(rootsAlone(path, S_IFREG, "regular file"));
    return path;
}

}  // namespace

Result<PolicyPlugin> PolicyPlugin::load(const std::filesystem::path& file,
                                        const std::filesystem::path& directory) {
    const auto path = checked(file, directory);
    if (!path) return tl::unexpected(path.error());
    // RTLD_NOW: a symbol that is missing shows here, not in the middle of a call.
    void* object = ::dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
    if (object == nullptr)
        return fail(ErrorCode::notSupported, fmt::format("it cannot be loaded: {}", ::dlerror()));
    const auto* entry = static_cast<const thermocline_policy*>(::dlsym(object, THERMOCLINE_POLICY_SYMBOL));
    if (entry == nullptr)
        return fail(ErrorCode::notSupported,
                    fmt::format("{} does not export {}", path->string(), THERMOCLINE_POLICY_SYMBOL));
    if (entry->abi != THERMOCLINE_POLICY_ABI)
        return fail(ErrorCode::notSupported,
                    fmt::format("{} is for version {} of the policy interface, this manager has version {}",
                                path->string(), entry->abi, THERMOCLINE_POLICY_ABI));
    // Built with a header of the same version that had fewer functions: those are null here.
    thermocline_policy functions{};
    std::memcpy(&functions, entry, std::min<std::size_t>(entry->size, sizeof functions));
    if (functions.name == nullptr || functions.create == nullptr)
        return fail(ErrorCode::notSupported, fmt::format("{} has no name or no create()", path->string()));
    std::string name(functions.name, ::strnlen(functions.name, longestName));
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return PolicyPlugin(functions, std::move(name));
}

}  // namespace thermocline::memory
