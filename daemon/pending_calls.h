// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <functional>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "common/error.h"
#include "daemon/domain.h"

namespace thermocline {

/// D-Bus method calls that are answered later. A call refers to its connection, so none
/// may outlive it: whoever ends the connection calls failAll() first, and callbacks that
/// are still kept somewhere then hold nothing any more. Belongs to the loop's thread.
class PendingCalls {
  public:
    /// What answers the call, once.
    Domain::Done take(sdbus::Result<>&& call);
    /// Likewise, for a call that returns values.
    template <typename... Values>
    std::function<void(const Result<std::tuple<Values...>>&)> takeFor(sdbus::Result<Values...>&& call);
    /// Answers all that were not answered yet with the error.
    void failAll(const Error& error);

  private:
    struct Pending {
        Pending() = default;
        Pending(const Pending&) = delete;
        Pending& operator=(const Pending&) = delete;
        virtual ~Pending() = default;
        virtual void refuse(const Error& error) = 0;
    };
    template <typename... Values>
    struct Call final : Pending {
        explicit Call(sdbus::Result<Values...>&& taken) : call(std::move(taken)) {}
        void refuse(const Error& error) override {
            if (call) send([&] { call->returnError(asBusError(error)); });
            call.reset();
        }
        void answer(const Values&... values) {
            if (call) send([&] { call->returnResults(values...); });
            call.reset();
        }
        std::optional<sdbus::Result<Values...>> call;  ///< empty once answered
    };

    static void send(const std::function<void()>& answer);
    static sdbus::Error asBusError(const Error& error);
    void keep(const std::shared_ptr<Pending>& call);

    std::vector<std::weak_ptr<Pending>> calls_;
};

template <typename... Values>
std::function<void(const Result<std::tuple<Values...>>&)> PendingCalls::takeFor(
    sdbus::Result<Values...>&& call) {
    auto kept = std::make_shared<Call<Values...>>(std::move(call));
    keep(kept);
    return [kept = std::move(kept)](const Result<std::tuple<Values...>>& result) {
        if (!result) return kept->refuse(result.error());
        std::apply([&](const Values&... values) { kept->answer(values...); }, *result);
    };
}

}  // namespace thermocline
