// SPDX-License-Identifier: Apache-2.0

// The text of /proc/PID/maps, smaps and status.

#include <fmt/format.h>

#include <string>

#include "memory/process_map.h"
#include "tests/fuzz/fuzz_target.h"

using thermocline::memory::Mapping;

namespace {

std::string lineOf(const Mapping& mapping) {
    return fmt::format("{:x}-{:x} {} 0 0:0 0 {}\n", mapping.range.start.value, mapping.range.end().value,
                       mapping.permissions, mapping.path);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace thermocline::memory;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    (void)statusField(text, "VmPin");
    const auto mappings = parseMappings(text);
    if (!mappings) return 0;
    std::string again;
    for (const auto& mapping : *mappings) {
        THERMOCLINE_HOLDS(mapping.permissions.size() == 4);
        THERMOCLINE_HOLDS(mapping.range.start.value <= mapping.range.end().value);
        (void)mapping.hasFlag("um");
        again += lineOf(mapping);
    }
    const auto second = parseMappings(again);
    THERMOCLINE_HOLDS(second && second->size() == mappings->size());
    for (std::size_t i = 0; i < second->size(); ++i)
        THERMOCLINE_HOLDS((*second)[i].range == (*mappings)[i].range &&
                          (*second)[i].path == (*mappings)[i].path);
    return 0;
}
