// SPDX-License-Identifier: Apache-2.0

// Byte sizes and shares as people write them: what is taken can be written and is taken again.

#include <cmath>

#include "common/byte_size.h"
#include "common/share.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

bool near(double a, double b, double tolerance) {
    return std::abs(a - b) <= tolerance * std::max(std::abs(a), std::abs(b));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace thermocline;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto bytes = parseByteSize(text)) {
        THERMOCLINE_HOLDS(*bytes <= std::uint64_t{INT64_MAX});
        const auto shown = formatByteSize(*bytes);
        if (*bytes < std::uint64_t{1} << 50) {
            const auto again = parseByteSize(shown);
            THERMOCLINE_HOLDS(again && near(static_cast<double>(*again), static_cast<double>(*bytes), 0.06));
        }
        THERMOCLINE_HOLDS(text.front() >= '0' && text.front() <= '9');
    }
    if (const auto share = parseShare(text)) {
        THERMOCLINE_HOLDS(std::isfinite(*share));
        const auto again = parseShare(formatShare(*share));
        // Close to the largest number there is, a hundred times as much is none; close to the least, it has
        // no digits.
        if (std::abs(*share) < 1e300 && std::abs(*share) > 1e-300)
            THERMOCLINE_HOLDS(again && near(*again, *share, 1e-5));
    }
    return 0;
}
