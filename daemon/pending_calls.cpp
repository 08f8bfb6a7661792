// SPDX-License-Identifier: Apache-2.0
#include "daemon/pending_calls.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "daemon/bus.h"

namespace thermocline {

Domain::Done PendingCalls::take(sdbus::Result<>&& call) {
    auto kept = std::make_shared<Call<>>(std::move(call));
    keep(kept);
    return [kept = std::move(kept)](const Result<void>& result) {
        if (result)
            kept->answer();
        else
            kept->refuse(result.error());
    };
}

void PendingCalls::keep(const std::shared_ptr<Pending>& call) {
    std::erase_if(calls_, [](const auto& old) { return old.expired(); });
    calls_.push_back(call);
}

void PendingCalls::send(const std::function<void()>& answer) {
    try {
        answer();
    } catch (const sdbus::Error& error) {
        spdlog::warn("an answer could not be sent: {}", error.getMessage());  // the bus is gone
    }
}

sdbus::Error PendingCalls::asBusError(const Error& error) {
    return toBusError(error);
}

void PendingCalls::failAll(const Error& error) {
    for (const auto& weak : std::exchange(calls_, {}))
        if (const auto call = weak.lock()) call->refuse(error);
}

}  // namespace thermocline
