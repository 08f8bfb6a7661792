// SPDX-License-Identifier: Apache-2.0
#pragma once

// The engine's parts put together without a policy, so that tests and benchmarks decide when pages move.
// Attaches on construction, brings everything back and cures on destruction; throws std::runtime_error where
// that fails.

#include <memory>
#include <optional>
#include <string>

#include "memory/budget.h"
#include "memory/fault_handler.h"
#include "memory/pager.h"
#include "memory/testing/subject_process.h"

namespace thermocline::memory::testing {

class PagerRig {
  public:
    explicit PagerRig(SubjectProcess& subject, std::optional<FrozenTierOptions> frozen = {},
                      Mechanism mechanism = Mechanism::move);
    ~PagerRig();
    PagerRig(const PagerRig&) = delete;
    PagerRig& operator=(const PagerRig&) = delete;

    /// Registers the subject's memory and starts the fault handler.
    void serve(std::function<void()> messagesRead = {});
    /// The two halves of serve(): in between, faults and events pile up.
    void registerGuest();
    void startFaultHandler(std::function<void()> messagesRead = {});
    /// Every page that is resident, moved aside; returns how many there are in the staging area.
    std::uint64_t stageAll();
    /// Every staged page, compressed; returns how many pages are cold.
    std::uint64_t evictAll();
    /// Every cold page, in the file; returns how many there are. REQUIRES: a file tier.
    std::uint64_t freezeAll();
    void restoreAll();

    [[nodiscard]] Pager& pager() { return *pager_; }
    [[nodiscard]] Userfault& guest() { return *guest_; }
    [[nodiscard]] ColdStore& store() { return *store_; }
    [[nodiscard]] FrozenTier& frozen() { return *frozen_; }
    /// Without a limit, unless a test sets one; nobody reclaims.
    [[nodiscard]] Budget& budget() { return *budget_; }
    [[nodiscard]] const Footprint& footprint() const { return attachment_.footprint; }
    /// A descriptor of the store's file, to damage it.
    [[nodiscard]] UniqueFd arena() const;

  private:
    template <typename Do>
    void eachBlock(Do&& action);

    std::string directory_;
    Attachment attachment_;
    thermocline_lane* lanes_ = nullptr;
    std::unique_ptr<Userfault> guest_;
    std::unique_ptr<Userfault> drop_;
    std::unique_ptr<ProcessMemory> memory_;
    std::unique_ptr<PageMap> pages_;
    std::unique_ptr<EventJournal> journal_;
    std::unique_ptr<ColdStore> store_;
    std::unique_ptr<FrozenTier> frozen_;
    std::vector<AgentLane> agents_;
    std::unique_ptr<Pager> pager_;
    std::unique_ptr<Budget> budget_;
    std::unique_ptr<FaultHandler> faults_;
};

}  // namespace thermocline::memory::testing
