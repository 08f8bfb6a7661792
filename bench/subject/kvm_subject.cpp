// SPDX-License-Identifier: Apache-2.0

// A process with a KVM guest that touches the memory; see subject.h and ring3_guest.h.

#include <iostream>

#include "bench/subject/ring3_guest.h"

int main(int argc, char** argv) {
    using namespace thermocline::bench;
    const auto arguments = readArguments(argc, argv);
    const VmRam ram(arguments.bytes, arguments.huge);
    std::string problem;
    const auto guest = Ring3Guest::create(ram, problem);
    if (guest == nullptr) {
        std::cerr << problem << std::endl;
        return 1;
    }
    Subject(ram, *guest).serve();
    return 0;
}
