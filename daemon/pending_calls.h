// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <memory>
#include <optional>
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
    /// Answers all that were not answered yet with the error.
    void failAll(const Error& error);

  private:
    using Call = std::optional<sdbus::Result<>>;
    static void answer(Call& call, const Result<void>& result);

    std::vector<std::weak_ptr<Call>> calls_;
};

}  // namespace thermocline
