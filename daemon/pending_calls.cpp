// SPDX-License-Identifier: Apache-2.0
#include "daemon/pending_calls.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "daemon/bus.h"

namespace thermocline {

Domain::Done PendingCalls::take(sdbus::Result<>&& call) {
    auto kept = std::make_shared<Call>(std::move(call));
    std::erase_if(calls_, [](const auto& old) { return old.expired(); });
    calls_.push_back(kept);
    return [kept = std::move(kept)](const Result<void>& result) { answer(*kept, result); };
}

void PendingCalls::answer(Call& call, const Result<void>& result) {
    if (!call) return;
    try {
        if (result)
            call->returnResults();
        else
            call->returnError(toBusError(result.error()));
    } catch (const sdbus::Error& error) {
        spdlog::warn("an answer could not be sent: {}", error.getMessage());  // the bus is gone
    }
    call.reset();
}

void PendingCalls::failAll(const Error& error) {
    for (const auto& weak : std::exchange(calls_, {}))
        if (const auto call = weak.lock()) answer(*call, tl::unexpected<Error>(error));
}

}  // namespace thermocline
