// SPDX-License-Identifier: Apache-2.0
#pragma once

// What both subjects do: fill memory, run a workload on it, and answer commands, one line each, in JSON.
// bench/README.md lists them. Not thread-safe.

#include <cstdint>
#include <memory>
#include <string>

#include "bench/subject/access_pattern.h"
#include "bench/subject/batch_area.h"
#include "bench/subject/vm_ram.h"

namespace thermocline::bench {

/// Runs batches: in the process itself, or in a guest.
class Machine {
  public:
    virtual ~Machine() = default;
    [[nodiscard]] virtual BatchArea& area() = 0;
    /// Runs the batch once. Returns what went wrong, empty if nothing did.
    [[nodiscard]] virtual std::string run() = 0;
};

class Subject {
  public:
    /// Both outlive it.
    Subject(const VmRam& ram, Machine& machine);

    /// Answers commands from standard input until it ends.
    void serve();
    [[nodiscard]] std::string answer(const std::string& command);

  private:
    std::string fill();
    struct Pace {
        double seconds = 0;       ///< how long
        double sliceSeconds = 0;  ///< counts for each slice of so long, too; 0 = not
        double workSeconds = 0;   ///< computing that goes with each access
    };
    std::string runWorkload(const PatternOptions& options, const Pace& pace);

    const VmRam& ram_;
    Machine& machine_;
    double cyclesPerNanosecond_;
    PatternOptions lastOptions_;
    std::unique_ptr<AccessPattern> pattern_;
};

/// What is on a subject's command line.
struct SubjectArguments {
    std::uint64_t bytes = 0;
    bool huge = true;
};
/// Ends the program with a message where they are wrong; and ties the process to its parent's life.
SubjectArguments readArguments(int argc, char** argv);

}  // namespace thermocline::bench
