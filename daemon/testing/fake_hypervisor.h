// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>
#include <vector>

#include "daemon/hypervisor.h"

namespace thermocline::testing {

/// A hypervisor that says what the test makes it say. One thread.
class FakeHypervisor : public Hypervisor {
  public:
    void start(Listener& listener) override { listener_ = &listener; }
    void setOvercommit(const std::string& uuid, std::optional<std::string> element,
                       std::function<void(Result<void>)> done) override {
        writes.push_back({uuid, std::move(element), std::move(done)});
    }
    void suspend(const std::string& uuid, std::function<void(Result<void>)> done) override {
        suspended.push_back(uuid);
        done({});
    }
    std::vector<std::string> suspended;
    struct Write {
        std::string uuid;
        std::optional<std::string> element;
        std::function<void(Result<void>)> done;  ///< the test answers, or not
    };
    std::vector<Write> writes;
    /// REQUIRES: started.
    [[nodiscard]] Listener& listener() const { return *listener_; }

  private:
    Listener* listener_ = nullptr;
};

}  // namespace thermocline::testing
