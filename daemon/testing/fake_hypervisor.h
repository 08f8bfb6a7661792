// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "daemon/hypervisor.h"

namespace thermocline::testing {

/// A hypervisor that says what the test makes it say. One thread.
class FakeHypervisor : public Hypervisor {
  public:
    void start(Listener& listener) override { listener_ = &listener; }
    /// REQUIRES: started.
    [[nodiscard]] Listener& listener() const { return *listener_; }

  private:
    Listener* listener_ = nullptr;
};

}  // namespace thermocline::testing
