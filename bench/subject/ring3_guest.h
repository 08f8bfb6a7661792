// SPDX-License-Identifier: Apache-2.0
#pragma once

// A KVM guest without an operating system: one vCPU that starts in 64-bit mode, in ring 3 (the only ring in
// which a nested PVM host runs guest code at full speed), with the batch's code, page tables and stack in a
// small memory slot of their own, and guest RAM in another. Its page faults are those of any guest. Not
// thread-safe.

#include <linux/kvm.h>

#include <memory>
#include <string>

#include "bench/subject/subject.h"
#include "common/unique_fd.h"

namespace thermocline::bench {

class Ring3Guest : public Machine {
  public:
    /// Null where it cannot be made; `problem` says why. `ram` outlives the guest.
    static std::unique_ptr<Ring3Guest> create(const VmRam& ram, std::string& problem);
    ~Ring3Guest() override;
    Ring3Guest(const Ring3Guest&) = delete;
    Ring3Guest& operator=(const Ring3Guest&) = delete;

    BatchArea& area() override { return *area_; }
    std::string run() override;

  private:
    explicit Ring3Guest(const VmRam& ram);
    std::string start();
    std::string makeVm();
    std::string makeVcpu();
    void makePageTables();

    const VmRam& ram_;
    std::uint64_t controlBytes_;
    std::byte* control_ = nullptr;  // guest physical 0
    std::unique_ptr<BatchArea> area_;
    UniqueFd kvm_;
    UniqueFd vm_;
    UniqueFd vcpu_;
    kvm_run* state_ = nullptr;
    std::size_t stateBytes_ = 0;
};

}  // namespace thermocline::bench
