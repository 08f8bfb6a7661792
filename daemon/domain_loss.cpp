// SPDX-License-Identifier: Apache-2.0
// Memory of the VM that cannot be had: its bytes are damaged in the store, or the disk does not give them
// back.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "daemon/domain.h"

namespace thermocline {

/// Who needs such a page waits, and is never given other bytes. The rest of the guest is stopped as well,
/// before it draws conclusions from a thread that does not answer; the operator finds a paused domain, and
/// why. That is done once: who resumes it has read that.
void Domain::followLoss() {
    if (status_.lostPages == 0 || !lossNote_.empty()) return;
    const auto what = fmt::format("memory of the VM is lost: {}; who needs it waits", status_.lostNote);
    spdlog::critical("domain {}: {}", info_.name, what);
    lossNote_ = what;
    if (!environment_.suspend) return;
    lossNote_ += "; it is being paused";
    environment_.suspend(info_.uuid, [this, alive = std::weak_ptr<bool>(alive_), what](Result<void> paused) {
        if (alive.expired() || lossNote_.empty()) return;
        lossNote_ =
            paused
                ? fmt::format("{}; it was paused: save what can be saved (virsh resume {}), then destroy it",
                              what, info_.name)
                : fmt::format("{}; libvirt could not pause it: {}", what, paused.error().message);
        spdlog::critical("domain {}: {}", info_.name, lossNote_);
        environment_.changed(*this);
    });
}

}  // namespace thermocline
