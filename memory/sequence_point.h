// SPDX-License-Identifier: Apache-2.0
#pragma once

// Named instants of the engine, for tests that need something to happen at just that one: a manager killed
// between two steps. Nobody listens in a program that is not a test, and then a point is a load and a branch.
// Any thread; the listener is set before the engine starts.

namespace thermocline::memory {

using SequenceListener = void (*)(const char* point);

/// Called on the thread that passes a point; nullptr: nobody.
inline SequenceListener sequenceListener = nullptr;

inline void sequencePoint(const char* point) {
    if (sequenceListener != nullptr) [[unlikely]]
        sequenceListener(point);
}

}  // namespace thermocline::memory
