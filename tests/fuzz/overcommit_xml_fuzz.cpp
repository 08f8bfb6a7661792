// SPDX-License-Identifier: Apache-2.0

// A domain's <overcommit> element, which whoever may edit the domain writes: what is taken is in
// range, can be written, and is taken again as the same.

#include "daemon/overcommit_xml.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace thermocline;
    const auto policy = parseOvercommit({reinterpret_cast<const char*>(data), size});
    if (!policy) return 0;
    THERMOCLINE_HOLDS(policy->managed && policy->proactive.maxStall <= 0.5);
    const auto again = parseOvercommit(formatOvercommit(*policy));
    THERMOCLINE_HOLDS(again && *again == *policy);
    return 0;
}
