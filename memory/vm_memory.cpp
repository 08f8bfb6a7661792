// SPDX-License-Identifier: Apache-2.0
#include "memory/vm_memory.h"

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "common/byte_size.h"
#include "memory/sequence_point.h"

namespace thermocline::memory {
namespace {

/// Of a file tier: its key and its file.
constexpr std::size_t keptOfTier = 2;
constexpr auto stallWindow = std::chrono::seconds(1);

thermocline_lane* laneAt(thermocline_lane* first, std::size_t lane) {
    return reinterpret_cast<thermocline_lane*>(reinterpret_cast<std::byte*>(first) +
                                               lane * THERMOCLINE_LANE_BYTES);
}

FrozenTierOptions tierOptions(const VmMemory::Options& options) {
    auto tier = options.frozen.value_or(FrozenTierOptions{});
    tier.store.ledger = options.stateDirectory + "/" + frozenLedgerFileName;
    return tier;
}

/// None where none is wanted, or where it cannot be made: `without` then says why.
std::unique_ptr<FrozenTier> fileTier(const VmMemory::Options& options, std::string& without) {
    if (!options.frozen) return nullptr;
    auto tier = FrozenTier::create(tierOptions(options));
    if (tier) return std::move(*tier);
    without = "not in use: " + tier.error().message;
    spdlog::warn("the file tier is {}", without);
    return nullptr;
}

/// What the VM's process is to keep open, so that the tier outlives us. Nothing where no manager could go on.
std::vector<UniqueFd> toKeep(FrozenTier* tier, Mechanism mechanism) {
    std::vector<UniqueFd> keep;
    if (tier == nullptr || mechanism != Mechanism::move) return keep;
    auto kept = tier->store().toKeep();
    if (kept) {
        keep.push_back(std::move(kept->key));
        keep.push_back(std::move(kept->file));
    } else {
        spdlog::warn("what is in the file tier will be lost if this manager is killed: {}",
                     kept.error().message);
    }
    return keep;
}

/// The tier of the manager that died. None where it had none, or where it cannot be had: `without` then says
/// why.
std::unique_ptr<FrozenTier> recoveredTier(const VmMemory::Options& options, std::vector<UniqueFd> kept,
                                          std::string& without) {
    auto wanted = tierOptions(options);
    // Only what is there counts.
    if (!options.frozen) wanted.store.maxFileBytes = UINT64_MAX / 4;
    kept.resize(keptOfTier);
    auto tier = FrozenTier::recover(wanted, {std::move(kept[0]), std::move(kept[1])});
    if (tier) {
        if (!options.frozen && !(*tier)->closing())
            (*tier)->shut("thermoclined was started without --file-tier-dir");
        return std::move(*tier);
    }
    if (tier.error().code == ErrorCode::notAttached && !options.frozen) return nullptr;
    without = "not in use: " + tier.error().message;
    spdlog::warn("the file tier is {}", without);
    return nullptr;
}

bool hasEnded(const UniqueFd& process) {
    pollfd polled{process.get(), POLLIN, 0};
    return ::poll(&polled, 1, 0) > 0;
}

/// Until the agents have done what a manager asked of them that is dead. Error: processGone; notAttached
/// where that was to leave.
Result<void> awaitAgents(const Attachment& attachment) {
    constexpr auto bytes = laneCount * THERMOCLINE_LANE_BYTES;
    void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, attachment.control.get(), 0);
    if (mapped == MAP_FAILED) return failErrno("mapping the control pages");
    const std::unique_ptr<void, void (*)(void*)> lanes(mapped, [](void* at) { ::munmap(at, bytes); });
    std::vector<AgentLane> agents;
    for (std::size_t lane = 0; lane < laneCount; ++lane)
        agents.emplace_back(laneAt(static_cast<thermocline_lane*>(mapped), lane),
                            attachment.footprint.threads.at(lane),
                            [&] { return hasEnded(attachment.process); });
    bool leaving = false;
    for (auto& agent : agents) {
        // One that was told to leave may be gone; it does nothing else any more.
        if (!agent.leaving() && !agent.awaitIdle())
            return fail(ErrorCode::processGone, "the VM's process has ended");
        leaving = leaving || agent.leaving();
    }
    if (!leaving) return {};
    // The other one was through with bringing pages back, and unregistered everything.
    for (auto& agent : agents)
        agent.dismiss();
    return fail(ErrorCode::notAttached,
                "the manager died at the end of a detach; what it left in the process is to be cured");
}

Result<void> checkRecoverable(Mechanism mechanism) {
    if (mechanism == Mechanism::move) return {};
    return fail(ErrorCode::notSupported,
                "a manager of a VM whose pages cannot be moved cannot be followed by another one: which of "
                "them were about to be dropped would die with it");
}

}  // namespace

Result<std::unique_ptr<VmMemory>> VmMemory::attach(Options options) {
    AddressMap addresses(options.guestRam);
    const auto arena = options.stateDirectory + "/" + arenaFileName;
    const auto map = options.stateDirectory + "/" + pageMapFileName;
    const auto events = options.stateDirectory + "/" + eventJournalFileName;
    const auto removeFiles = [directory = options.stateDirectory] { removeStoreFiles(directory); };
    auto pages = PageMap::create(map, addresses.blocks());
    if (!pages) return tl::unexpected(pages.error());
    auto store = ColdStore::create(arena, addresses.blocks() * blockBytes);
    if (!store) {
        removeFiles();
        return tl::unexpected(store.error());
    }
    auto journal = EventJournal::create(events, addresses);
    if (!journal) {
        removeFiles();
        return tl::unexpected(journal.error());
    }
    std::string withoutTier;
    auto frozen = fileTier(options, withoutTier);
    auto keeping = toKeep(frozen.get(), options.mechanism);
    std::vector<int> keep;
    for (const auto& fd : keeping)
        keep.push_back(fd.get());
    auto attachment = memory::attach(options.pid, options.guestRam, addresses.blocks(), options.mechanism,
                                     keep, options.userfaultfdDevice);
    keeping.clear();
    if (!attachment) {
        removeFiles();
        return tl::unexpected(attachment.error());
    }
    if (attachment->footprint.kept.size() < keep.size())
        spdlog::warn(
            "what is in the file tier will be lost if this manager is killed: the VM's process may not "
            "keep it open (a security module, such as AppArmor or SELinux, refused?)");
    void* lanes = ::mmap(nullptr, laneCount * THERMOCLINE_LANE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                         attachment->control.get(), 0);
    if (lanes == MAP_FAILED) {
        const auto error = failErrno("mapping the control pages");
        (void)cure(attachment->footprint);
        removeFiles();
        return error;
    }
    std::unique_ptr<VmMemory> vm(new VmMemory(
        std::move(options), std::move(*attachment), std::move(addresses), std::move(*pages),
        std::move(*journal), std::move(*store), std::move(frozen), static_cast<thermocline_lane*>(lanes)));
    vm->withoutTier_ = std::move(withoutTier);
    const auto mechanism = vm->footprint().mechanism;
    const StagingArea area(vm->footprint().staging, vm->pages_.blocks());
    if (const auto prepared = prepareUserfaults(mechanism, vm->guest_, vm->drop_, area); !prepared) {
        (void)vm->detach();
        (void)cure(vm->footprint());
        return tl::unexpected(prepared.error());
    }
    return vm;
}

Result<std::unique_ptr<VmMemory>> VmMemory::recover(Options options, const Footprint& footprint) {
    THERMOCLINE_TRY(checkRecoverable(footprint.mechanism));
    const auto events = options.stateDirectory + "/" + eventJournalFileName;
    if (::access(events.c_str(), F_OK) != 0 && errno == ENOENT)
        return fail(ErrorCode::notAttached,
                    "the manager ended in order; what it left in the process is to be cured");
    // Its lock first: from here on the other manager is dead, and we are the only one.
    auto journal = EventJournal::open(events);
    if (!journal) return tl::unexpected(journal.error());
    auto attachment = reattach(footprint);
    if (!attachment) return tl::unexpected(attachment.error());
    THERMOCLINE_TRY(awaitAgents(*attachment));
    auto addresses = journal->addressMap();
    auto pages = PageMap::open(options.stateDirectory + "/" + pageMapFileName, addresses.blocks());
    if (!pages) return tl::unexpected(pages.error());
    auto store =
        ColdStore::open(options.stateDirectory + "/" + arenaFileName, addresses.blocks() * blockBytes);
    if (!store) return tl::unexpected(store.error());
    void* lanes = ::mmap(nullptr, laneCount * THERMOCLINE_LANE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                         attachment->control.get(), 0);
    if (lanes == MAP_FAILED) return failErrno("mapping the control pages");
    options.guestRam = footprint.guestRam;
    options.mechanism = footprint.mechanism;
    std::string withoutTier;
    auto frozen = recoveredTier(options, std::move(attachment->kept), withoutTier);
    std::unique_ptr<VmMemory> vm(new VmMemory(
        std::move(options), std::move(*attachment), std::move(addresses), std::move(*pages),
        std::move(*journal), std::move(*store), std::move(frozen), static_cast<thermocline_lane*>(lanes)));
    vm->withoutTier_ = std::move(withoutTier);
    vm->keepFiles_ = true;
    THERMOCLINE_TRY(vm->takeOver());
    return vm;
}

Result<void> VmMemory::dismiss(Options options, const Footprint& footprint) {
    const auto vm = recover(std::move(options), footprint);
    if (!vm) return tl::unexpected(vm.error());
    if ((*vm)->pager_.registered())
        return fail(ErrorCode::busy, "pages of the VM may be away, which a manager has to bring back first");
    (*vm)->keepFiles_ = false;
    return (*vm)->detach();
}

Result<void> VmMemory::takeOver() {
    const auto found = pager_.recover();
    if (!found && found.error().code == ErrorCode::notSupported && !withoutTier_.empty())
        return fail(ErrorCode::notSupported,
                    fmt::format("{}, which is {}", found.error().message, withoutTier_));
    if (!found) return tl::unexpected(found.error());
    spdlog::info(
        "recovered: {} pages staged, {} in the store, {} in the file tier, {} that were on their way, {} "
        "lost",
        found->staged, found->stored, found->frozen, found->settled, found->lost);
    return {};
}

VmMemory::VmMemory(Options options, Attachment attachment, AddressMap addresses, PageMap pages,
                   EventJournal journal, std::unique_ptr<ColdStore> store, std::unique_ptr<FrozenTier> frozen,
                   thermocline_lane* firstLane)
    : options_(std::move(options)),
      attachment_(std::move(attachment)),
      lanes_(firstLane),
      guest_(std::move(attachment_.guestUffd)),
      drop_(std::move(attachment_.dropUffd)),
      memory_(std::move(attachment_.memory), std::move(attachment_.pagemap), std::move(attachment_.status)),
      pages_(std::move(pages)),
      journal_(std::move(journal)),
      store_(std::move(store)),
      frozen_(std::move(frozen)),
      agents_{
          AgentLane(laneAt(lanes_, 0), attachment_.footprint.threads[0], [this] { return processEnded(); }),
          AgentLane(laneAt(lanes_, 1), attachment_.footprint.threads[1], [this] { return processEnded(); })},
      pager_(attachment_.footprint, std::move(addresses), guest_, drop_, memory_, pages_, journal_, *store_,
             frozen_.get(), {&agents_[0], &agents_[1]}, &attachment_.files),
      budget_(pager_, *store_),
      stallSince_(std::chrono::steady_clock::now()) {}

void VmMemory::start() {
    keepFiles_ = false;
    // The reclaimer asks the handler only once it has something to do, which is after both are there.
    Reclaimer::Guest guest;
    guest.roomMade = [this] {
        if (faults_->waitsForRoom()) faults_->wake();
    };
    guest.wake = [this] { faults_->wake(); };
    guest.ended = [this] { return gone_.load(); };
    guest.stall = [this] { return faults_->stall(); };
    guest.waited = [this] { return faults_->waited(); };
    guest.faults = [this] { return faults_->faults(); };
    guest.waits = [this] { return faults_->waitsForRoom(); };
    guest.cpu = [this] { return faults_->cpu(); };
    if (!options_.policy.file.empty()) {
        policy_ = std::make_unique<PolicyHost>(options_.policy, policyView());
        guest.advice = [this] { return policy_->choice(); };
    }
    reclaimer_ = std::make_unique<Reclaimer>(pager_, *store_, frozen_.get(), budget_, std::move(guest));
    FaultHandler::Hooks hooks;
    hooks.memoryGrew = [this] { reclaimer_->memoryGrew(); };
    hooks.quiet = [this] { return reclaimer_->sleeping(); };
    hooks.restoring = [this] { return reclaimer_->restoring(); };
    hooks.streamMoved = [this](std::optional<BlockNumber> from, BlockNumber to, bool whole) {
        reclaimer_->streamMoved(from, to, whole);
    };
    hooks.processEnded = [this] {
        gone_ = true;
        if (frozen_) frozen_->settled();
        if (options_.processEnded) options_.processEnded();
    };
    if (policy_) hooks.served = [this](PageNumber page, PageState before) { tellPolicy(page, before); };
    faults_ =
        std::make_unique<FaultHandler>(pager_, guest_, budget_, attachment_.process.get(), std::move(hooks));
    if (policy_) policy_->start();
    if (frozen_ && frozen_->closing()) reclaimer_->closeFileTier();
}

VmMemory::~VmMemory() {
    if (policy_) policy_->stop();
    // In this order: the reclaimer's last step may need an event read. The objects stay until both threads
    // have ended, since each calls the other.
    if (reclaimer_) reclaimer_->stop();
    if (faults_) faults_->stop();
    ::munmap(lanes_, laneCount * THERMOCLINE_LANE_BYTES);
    if (keepFiles_) return;
    removeStoreFiles(options_.stateDirectory);
    // The VM's process may live, and has the key and the file.
    if (frozen_) (void)frozen_->store().killSwitch();
}

void removeStoreFiles(const std::string& directory) {
    for (const char* name : storeFileNames)
        ::unlink((directory + "/" + name).c_str());
}

bool VmMemory::processEnded() const {
    return hasEnded(attachment_.process);
}

Result<void> VmMemory::setLimit(std::uint64_t bytes) {
    if (gone_) return fail(ErrorCode::processGone, "the VM's process has ended");
    if (detached_) return fail(ErrorCode::notAttached, "the VM has been detached");
    const auto memory = pager_.memoryBytes();
    const auto floor = limitFloor(memory);
    if (bytes != 0 && (bytes < floor || bytes > memory))
        return fail(
            ErrorCode::invalidLimit,
            fmt::format("a limit of {} is out of range; this VM takes from {} ({} bytes) to {} ({} bytes)",
                        formatByteSize(bytes), formatByteSize(floor), floor, formatByteSize(memory), memory));
    reclaimer_->setLimit(bytes);
    sequencePoint("limit-changed");
    if (policy_) policy_->limitChanged();
    return {};
}

Result<void> VmMemory::setProactive(std::optional<ProactivePolicy::Settings> settings) {
    if (gone_) return fail(ErrorCode::processGone, "the VM's process has ended");
    if (detached_) return fail(ErrorCode::notAttached, "the VM has been detached");
    if (settings && !(settings->maxStall >= ProactivePolicy::leastStall &&
                      settings->maxStall <= ProactivePolicy::mostStall))
        return fail(ErrorCode::invalidArgument,
                    fmt::format("a stall of {} is out of range; it is a share of time, from {} to {}",
                                settings->maxStall, ProactivePolicy::leastStall, ProactivePolicy::mostStall));
    reclaimer_->setProactive(settings);
    if (policy_) policy_->limitChanged();
    return {};
}

Result<void> VmMemory::setActivity(Activity activity) {
    if (gone_) return fail(ErrorCode::processGone, "the VM's process has ended");
    if (detached_) return fail(ErrorCode::notAttached, "the VM has been detached");
    reclaimer_->setActivity(activity);
    return {};
}

Result<void> VmMemory::closeFileTier() {
    if (gone_) return fail(ErrorCode::processGone, "the VM's process has ended");
    if (detached_) return fail(ErrorCode::notAttached, "the VM has been detached");
    if (!frozen_)
        return fail(ErrorCode::notSupported,
                    withoutTier_.empty()
                        ? "this VM has no file tier; it gets one when it is attached, if thermoclined was "
                          "started with --file-tier-dir"
                        : "this VM's file tier is " + withoutTier_);
    reclaimer_->closeFileTier();
    return {};
}

Result<void> VmMemory::handOver() {
    if (gone_) return fail(ErrorCode::processGone, "the VM's process has ended");
    if (detached_) return fail(ErrorCode::notAttached, "the VM has been detached");
    THERMOCLINE_TRY(checkRecoverable(attachment_.footprint.mechanism));
    if (frozen_ && attachment_.footprint.kept.size() < keptOfTier)
        return fail(ErrorCode::notSupported,
                    "the VM's process may not keep the file tier's key and file open (no secret memory, or a "
                    "security module refused), so that nobody else could read what is in it");
    keepFiles_ = true;
    return {};
}

Result<void> VmMemory::detach() {
    if (detached_) return fail(ErrorCode::notAttached, "the VM has been detached");
    if (gone_) return fail(ErrorCode::processGone, "the VM's process has ended");
    if (reclaimer_) {
        reclaimer_->setActivity(Activity::running);
        reclaimer_->setProactive(std::nullopt);
        reclaimer_->setLimit(0);
        THERMOCLINE_TRY(reclaimer_->awaitRestored());
    }
    detached_ = true;
    sequencePoint("all-back");
    if (policy_) policy_->stop();
    const StagingArea area(attachment_.footprint.staging, pages_.blocks());
    (void)guest_.unregister(area.staging());
    (void)drop_.unregister(area.drops());
    if (reclaimer_) reclaimer_->stop();
    if (faults_) faults_->stop();
    for (auto& agent : agents_) {
        agent.exit();
        agent.run();
        sequencePoint("agent-dismissed");
    }
    return {};
}

std::uint64_t VmMemory::populatedBytes() const {
    std::uint64_t bytes = 0;
    for (const auto& range : attachment_.footprint.guestRam)
        (void)memory_.forEachPopulated(range, [&](VmRange run) { bytes += run.bytes; });
    return bytes;
}

HeatMap VmMemory::heat(std::size_t pieces) const {
    return pager_.heat(pieces);
}

Status VmMemory::status() const {
    Status status;
    const auto& counters = pager_.counters();
    status.pid = attachment_.footprint.pid;
    status.state = gone_ ? "gone" : detached_ ? "detached" : "attached";
    status.activity = activityName(reclaimer_ ? reclaimer_->activity() : Activity::running);
    status.mechanism = mechanismName(attachment_.footprint.mechanism);
    status.memoryBytes = pager_.memoryBytes();
    // In this order, against the way that reclaim takes: no page is counted twice while it moves.
    status.frozenBytes = pages_.count(PageState::frozen) * pageBytes;
    status.coldBytes = (pages_.count(PageState::cold) + pages_.count(PageState::filled)) * pageBytes;
    status.stagedBytes = pages_.count(PageState::staged) * pageBytes;
    // Unregistered, the guest's pages come and go without us: look.
    status.residentBytes =
        pager_.registered() ? pages_.count(PageState::resident) * pageBytes : populatedBytes();
    status.fileTier = withoutTier_;
    if (frozen_) {
        const auto note = frozen_->note();
        status.fileTier = note.empty() ? std::string(fileTierOpen) : note;
        status.fileBytes = frozen_->store().status().fileBytes;
    }
    status.storeBytes = store_->storedBytes();
    status.metadataBytes = pager_.metadataBytes();
    status.usedBytes = status.residentBytes + status.stagedBytes + status.storeBytes + status.metadataBytes +
                       pager_.leftoverPages() * pageBytes;
    status.limitBytes = budget_.limit();
    status.limitMet = status.limitBytes == 0 || status.usedBytes <= status.limitBytes;
    if (reclaimer_ && (status.limitBytes == 0 || !status.limitMet)) status.limitNote = reclaimer_->note();
    status.stagedFaults = counters.stagedFaults;
    status.coldFaults = counters.coldFaults;
    status.frozenFaults = counters.frozenFaults;
    status.zeroFaults = counters.zeroFaults;
    status.lostPages = counters.lostPages;
    status.lostNote = pager_.lostNote();
    status.evictedPages = counters.evictedPages;
    status.prefetchedPages = counters.prefetchedPages;
    if (const auto proactive = reclaimer_ ? reclaimer_->proactive() : std::nullopt) {
        status.proactiveMaxStall = proactive->maxStall;
        status.minResidentBytes = proactive->minResidentBytes;
    }
    status.policy = policy_ && policy_->inCharge() ? policy_->name() : builtInPolicyName;
    if (policy_) status.policyNote = policy_->note();
    status.attachPauseMicroseconds = attachment_.footprint.pauseMicroseconds;
    if (faults_) {
        status.faults = faults_->faults();
        status.stallNanoseconds = static_cast<std::uint64_t>(faults_->stall().count());
        const std::lock_guard lock(stallMutex_);
        const auto now = std::chrono::steady_clock::now();
        if (now - stallSince_ >= stallWindow) {
            // A fault that began before the window is counted when it is served: never more than all of the
            // time.
            stallRatio_ = std::min(1.0, std::chrono::duration<double>(faults_->stall() - stallAtSince_) /
                                            std::chrono::duration<double>(now - stallSince_));
            stallSince_ = now;
            stallAtSince_ = faults_->stall();
        }
        status.stallRatio = stallRatio_;
    }
    return status;
}

}  // namespace thermocline::memory
