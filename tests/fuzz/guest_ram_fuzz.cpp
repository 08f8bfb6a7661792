// SPDX-License-Identifier: Apache-2.0

// QEMU's command line (words end with NUL, as in /proc, or with a newline) and, after an empty line, its
// smaps: where guest RAM is found, it is what the command line asks for and nothing else.

#include <algorithm>
#include <string>

#include "memory/guest_ram.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace thermocline::memory;
    thermocline::fuzz::Input input(data, size);
    std::string words(input.until("\n\n"));
    std::replace(words.begin(), words.end(), '\n', '\0');
    const auto commandLine = parseQemuCommandLine(words);
    const auto mappings = parseMappings(input.rest());
    if (!commandLine) return 0;
    THERMOCLINE_HOLDS(!commandLine->backends.empty());
    if (!mappings) return 0;
    const auto ram = locateGuestRam(*commandLine, *mappings);
    if (!ram) return 0;
    THERMOCLINE_HOLDS(ram->ranges.size() == commandLine->backends.size());
    std::uint64_t wanted = 0;
    for (const auto& backend : commandLine->backends) {
        THERMOCLINE_HOLDS(!backend.shared && backend.type == "memory-backend-ram" && backend.bytes != 0);
        wanted += backend.bytes;
    }
    THERMOCLINE_HOLDS(ram->bytes() == wanted);
    for (std::size_t i = 0; i < ram->ranges.size(); ++i) {
        THERMOCLINE_HOLDS(i == 0 || ram->ranges[i - 1].end() <= ram->ranges[i].start);
        THERMOCLINE_HOLDS(std::any_of(mappings->begin(), mappings->end(), [&](const Mapping& mapping) {
            return mapping.range == ram->ranges[i] && mapping.anonymousPrivateWritable() &&
                   mapping.hasFlag("dc") && !mapping.hasFlag("um") && mapping.lockedBytes == 0;
        }));
    }
    return 0;
}
