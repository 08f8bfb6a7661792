// SPDX-License-Identifier: Apache-2.0

// What a policy is shown of one VM's memory.

#include "memory/vm_memory.h"

namespace thermocline::memory {

/// The fault thread's.
void VmMemory::tellPolicy(PageNumber page, PageState before) {
    switch (before) {
        case PageState::absent:
            return policy_->push({PolicyEvent::Kind::absentFault, page});
        case PageState::staged:
            return policy_->push({PolicyEvent::Kind::touched, page});
        case PageState::cold:
        case PageState::filled:
            return policy_->push({PolicyEvent::Kind::coldFault, page});
        case PageState::frozen:
            return policy_->push({PolicyEvent::Kind::frozenFault, page});
        case PageState::resident:
            return;  // a second thread's fault on the same page
    }
}

PolicyView VmMemory::policyView() {
    return {
        .pages = pages_,
        .managed = [this] { return pager_.registered(); },
        .read =
            [this](PageNumber page, std::size_t offset, std::span<std::byte> into) {
                // Addresses hold as long as no event is applied. A page that is moved out meanwhile is
                // missing for this read, too, and the read fails.
                const PriorityMutex::Patient layout(pager_.layout());
                if (pages_.peek(page).state() != PageState::resident) return false;
                const auto address = pager_.addresses().addressOf(page);
                return address && memory_.read(*address + offset, into).has_value();
            },
        .statistics = [this] { return policyStatistics(); },
        .wantsBack = [this] { reclaimer_->advised(); },
    };
}

thermocline_policy_statistics VmMemory::policyStatistics() const {
    const auto bytes = [&](PageState state) { return pages_.count(state) * pageBytes; };
    const auto proactive = reclaimer_->proactive();
    thermocline_policy_statistics statistics{};
    statistics.memory_bytes = pager_.memoryBytes();
    statistics.limit_bytes = budget_.limit();
    statistics.used_bytes = budget_.used();
    statistics.cold_bytes = bytes(PageState::cold) + bytes(PageState::filled);
    statistics.frozen_bytes = bytes(PageState::frozen);
    statistics.staged_bytes = bytes(PageState::staged);
    statistics.resident_bytes = bytes(PageState::resident);
    statistics.store_bytes = store_->storedBytes();
    statistics.faults = faults_->faults();
    statistics.stall_ns = static_cast<std::uint64_t>(faults_->stall().count());
    statistics.time_ms = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                                        std::chrono::steady_clock::now().time_since_epoch())
                                                        .count());
    statistics.proactive_stall = proactive ? proactive->maxStall : 0;
    return statistics;
}

}  // namespace thermocline::memory
