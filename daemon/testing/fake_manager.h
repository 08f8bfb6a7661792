// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdlib.h>

#include <string>

namespace thermocline::testing {

/// Tells the next fake_manager.py processes what to do (the words are listed
/// there); back to good behaviour at its end. Sets the environment: one thread.
class FakeManagerMood {
  public:
    explicit FakeManagerMood(const std::string& words) { ::setenv("FAKE_MANAGER", words.c_str(), 1); }
    FakeManagerMood(const FakeManagerMood&) = delete;
    FakeManagerMood& operator=(const FakeManagerMood&) = delete;
    ~FakeManagerMood() { ::unsetenv("FAKE_MANAGER"); }
};

}  // namespace thermocline::testing
