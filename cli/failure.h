// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <tl/expected.hpp>

#include "common/error.h"

namespace thermocline::cli {

/// How thermoctl ends; documented in --help.
enum class ExitCode : int {
    ok = 0,
    failure = 1,      ///< the daemon refused or failed
    usage = 2,        ///< wrong arguments
    unreachable = 3,  ///< no daemon to talk to
    noSuchDomain = 4,
    notSupported = 5,  ///< this host or VM cannot be overcommitted
};

/// Why a command did not succeed: how to end, the error's stable name
/// (as on D-Bus, without the prefix), and a sentence for a person.
struct Failure {
    ExitCode code = ExitCode::failure;
    std::string name;
    std::string message;
};

template <typename T>
using Expected = tl::expected<T, Failure>;

inline tl::unexpected<Failure> fail(ExitCode code, std::string name, std::string message) {
    return tl::unexpected<Failure>(Failure{code, std::move(name), std::move(message)});
}

}  // namespace thermocline::cli
