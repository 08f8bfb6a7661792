// SPDX-License-Identifier: Apache-2.0
#include "common/error.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <utility>

namespace thermocline {
namespace {

constexpr std::array names{
    std::pair{ErrorCode::noSuchDomain, std::string_view{"NoSuchDomain"}},
    std::pair{ErrorCode::domainNotRunning, std::string_view{"DomainNotRunning"}},
    std::pair{ErrorCode::alreadyAttached, std::string_view{"AlreadyAttached"}},
    std::pair{ErrorCode::notAttached, std::string_view{"NotAttached"}},
    std::pair{ErrorCode::notSupported, std::string_view{"NotSupported"}},
    std::pair{ErrorCode::invalidLimit, std::string_view{"InvalidLimit"}},
    std::pair{ErrorCode::invalidArgument, std::string_view{"InvalidArgument"}},
    std::pair{ErrorCode::permissionDenied, std::string_view{"PermissionDenied"}},
    std::pair{ErrorCode::hypervisorUnavailable, std::string_view{"HypervisorUnavailable"}},
    std::pair{ErrorCode::databaseError, std::string_view{"DatabaseError"}},
    std::pair{ErrorCode::outOfMemory, std::string_view{"OutOfMemory"}},
    std::pair{ErrorCode::processGone, std::string_view{"ProcessGone"}},
    std::pair{ErrorCode::busy, std::string_view{"Busy"}},
    std::pair{ErrorCode::alreadyRunning, std::string_view{"AlreadyRunning"}},
    std::pair{ErrorCode::systemError, std::string_view{"SystemError"}},
    std::pair{ErrorCode::internal, std::string_view{"Internal"}},
};

}  // namespace

std::string_view errorName(ErrorCode code) {
    for (const auto& [known, name] : names)
        if (known == code) return name;
    return "Internal";
}

ErrorCode errorCodeFromName(std::string_view name) {
    for (const auto& [code, known] : names)
        if (known == name) return code;
    return ErrorCode::internal;
}

tl::unexpected<Error> failErrno(std::string_view what, int errnum, ErrorCode code) {
    std::array<char, 128> text{};
    return fail(code, fmt::format("{}: {}", what, strerror_r(errnum, text.data(), text.size())));
}

}  // namespace thermocline
