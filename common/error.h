// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace thermocline {

/// Kinds of failure that a caller may want to tell apart. Each has one stable name (errorName) that is
/// the same in the log, in the manager's control protocol and, behind "org.thermocline1.Error.", on D-Bus.
enum class ErrorCode {
    noSuchDomain,           ///< libvirt knows no domain of that name or UUID
    domainNotRunning,       ///< the domain exists, but has no process to attach to
    alreadyAttached,        ///< the VM's memory is managed already
    notAttached,            ///< the request needs an attached VM
    notSupported,           ///< this host or this VM cannot be overcommitted; the message names the fix
    invalidLimit,           ///< a limit that is not a size, below the guest's floor or above its RAM
    invalidArgument,        ///< any other bad input
    permissionDenied,       ///< the kernel or the bus policy refused
    hypervisorUnavailable,  ///< libvirtd does not answer
    databaseError,          ///< the policy and history database cannot be used
    outOfMemory,            ///< the host has not the memory that the request needs
    processGone,            ///< the VM's process ended meanwhile
    busy,                   ///< another request on the same VM is under way
    alreadyRunning,         ///< the bus name or the run-time directory is taken
    systemError,            ///< an unexpected failure of the operating system
    internal,               ///< a bug of ours
};

/// Stable CamelCase name of `code`, for example "NoSuchDomain".
std::string_view errorName(ErrorCode code);
/// Reverse of errorName; ErrorCode::internal for a name it does not know.
ErrorCode errorCodeFromName(std::string_view name);

/// A failure: what kind, and one sentence for a person that says what was wrong and what to do.
struct Error {
    ErrorCode code = ErrorCode::internal;
    std::string message;
};

template <typename T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(ErrorCode code, std::string message) {
    return tl::unexpected<Error>(Error{code, std::move(message)});
}
/// A failed system call: `what` (call and the path or id it was about) with the text of `errnum`.
tl::unexpected<Error> failErrno(std::string_view what, int errnum = errno,
                                ErrorCode code = ErrorCode::systemError);

}  // namespace thermocline

/// Returns from the enclosing function with the error of `expression` where it has one.
#define THERMOCLINE_TRY(expression)                                                               \
    do {                                                                                          \
        auto thermoclineTryResult = (expression);                                                 \
        if (!thermoclineTryResult)                                                                \
            return tl::unexpected<::thermocline::Error>(std::move(thermoclineTryResult).error()); \
    } while (false)
