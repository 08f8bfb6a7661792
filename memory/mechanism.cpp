// SPDX-License-Identifier: Apache-2.0
#include "memory/mechanism.h"

#include <array>
#include <utility>

#include "memory/attachment.h"
#include "memory/kernel_abi.h"

namespace thermocline::memory {
namespace {

constexpr std::array<std::pair<Mechanism, std::string_view>, 3> names{{
    {Mechanism::move, "move"},
    {Mechanism::copy, "copy"},
    {Mechanism::unmap, "unmap"},
}};

}  // namespace

std::string_view mechanismName(Mechanism mechanism) {
    for (const auto& [known, name] : names)
        if (known == mechanism) return name;
    return {};
}

std::optional<Mechanism> mechanismFromName(std::string_view name) {
    for (const auto& [known, itsName] : names)
        if (itsName == name) return known;
    return std::nullopt;
}

std::uint64_t guestFeatures(Mechanism mechanism) {
    const std::uint64_t always = UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
                                 UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_THREAD_ID;
    switch (mechanism) {
        case Mechanism::move:
            return always | abi::uffdFeatureMove;
        case Mechanism::copy:
            return always | UFFD_FEATURE_PAGEFAULT_FLAG_WP;
        case Mechanism::unmap:
            break;
    }
    return always | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
}

std::uint64_t guestRegisterModes(Mechanism mechanism) {
    const std::uint64_t missing = UFFDIO_REGISTER_MODE_MISSING;
    switch (mechanism) {
        case Mechanism::move:
            break;
        case Mechanism::copy:
            return missing | UFFDIO_REGISTER_MODE_WP;
        case Mechanism::unmap:
            return missing | UFFDIO_REGISTER_MODE_MINOR;
    }
    return missing;
}

Result<void> prepareUserfaults(Mechanism mechanism, Userfault& guest, Userfault& drop,
                               const StagingArea& area) {
    THERMOCLINE_TRY(guest.enable(guestFeatures(mechanism)));
    // Where pages are copied the staging area is ordinary memory, and raises no events when it is freed;
    // where they are unmapped it is empty.
    if (mechanism != Mechanism::move) return drop.enable(0);
    THERMOCLINE_TRY(drop.enable(abi::uffdFeatureMove));
    THERMOCLINE_TRY(guest.registerMissing(area.staging()));
    return drop.registerMissing(area.drops());
}

}  // namespace thermocline::memory
