// SPDX-License-Identifier: Apache-2.0
#include "memory/testing/pager_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

#include <filesystem>
#include <stdexcept>
#include <thread>

namespace thermocline::memory::testing {
namespace {

template <typename T>
T require(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message);
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace

PagerRig::PagerRig(SubjectProcess& subject, std::optional<FrozenTierOptions> frozen, Mechanism mechanism) {
    char path[] = "/dev/shm/thermocline-rig-XXXXXX";
    directory_ = ::mkdtemp(path);
    AddressMap addresses(subject.guestRam());
    pages_ = std::make_unique<PageMap>(require(PageMap::create(directory_ + "/pagemap", addresses.blocks())));
    journal_ =
        std::make_unique<EventJournal>(require(EventJournal::create(directory_ + "/events", addresses)));
    store_ = require(ColdStore::create(directory_ + "/arena", addresses.blocks() * blockBytes));
    if (frozen) frozen_ = require(FrozenTier::create(*frozen));
    attachment_ = require(attach(subject.pid(), subject.guestRam(), addresses.blocks(), mechanism));
    lanes_ = static_cast<thermocline_lane*>(::mmap(nullptr, laneCount * THERMOCLINE_LANE_BYTES,
                                                   PROT_READ | PROT_WRITE, MAP_SHARED,
                                                   attachment_.control.get(), 0));
    for (std::size_t i = 0; i < laneCount; ++i)
        agents_.emplace_back(reinterpret_cast<thermocline_lane*>(reinterpret_cast<std::byte*>(lanes_) +
                                                                 i * THERMOCLINE_LANE_BYTES),
                             attachment_.footprint.threads[i], [this] {
                                 pollfd polled{attachment_.process.get(), POLLIN, 0};
                                 return ::poll(&polled, 1, 0) > 0;
                             });
    guest_ = std::make_unique<Userfault>(std::move(attachment_.guestUffd));
    drop_ = std::make_unique<Userfault>(std::move(attachment_.dropUffd));
    memory_ = std::make_unique<ProcessMemory>(std::move(attachment_.memory), std::move(attachment_.pagemap),
                                              std::move(attachment_.status));
    const StagingArea area(attachment_.footprint.staging, addresses.blocks());
    require(prepareUserfaults(mechanism, *guest_, *drop_, area));
    pager_ = std::make_unique<Pager>(attachment_.footprint, std::move(addresses), *guest_, *drop_, *memory_,
                                     *pages_, *journal_, *store_, frozen_.get(),
                                     std::array{&agents_[0], &agents_[1]}, &attachment_.files);
    budget_ = std::make_unique<Budget>(*pager_, *store_);
}

PagerRig::~PagerRig() {
    if (faults_) {
        restoreAll();
        (void)pager_->unregisterGuest();
        faults_->stop();
    }
    const StagingArea area(attachment_.footprint.staging, pages_->blocks());
    (void)guest_->unregister(area.staging());
    (void)drop_->unregister(area.drops());
    for (auto& agent : agents_) {
        agent.exit();
        agent.run();
    }
    (void)cure(attachment_.footprint);
    ::munmap(lanes_, laneCount * THERMOCLINE_LANE_BYTES);
    std::filesystem::remove_all(directory_);
}

void PagerRig::serve(std::function<void()> messagesRead) {
    registerGuest();
    startFaultHandler(std::move(messagesRead));
}

void PagerRig::registerGuest() {
    require(pager_->registerGuest());
}

void PagerRig::startFaultHandler(std::function<void()> messagesRead) {
    FaultHandler::Hooks hooks;
    hooks.memoryGrew = [] {};
    hooks.restoring = [] { return false; };
    hooks.streamMoved = [](std::optional<BlockNumber>, BlockNumber, bool) {};
    hooks.processEnded = [] {};
    hooks.messagesRead = std::move(messagesRead);
    faults_ = std::make_unique<FaultHandler>(*pager_, *guest_, *budget_, attachment_.process.get(),
                                             std::move(hooks));
}

UniqueFd PagerRig::arena() const {
    return UniqueFd(::open((directory_ + "/arena").c_str(), O_RDWR | O_CLOEXEC));
}

template <typename Do>
void PagerRig::eachBlock(Do&& action) {
    for (BlockNumber block = 0; block < pages_->blocks(); ++block)
        while (action(block) == Step::retry)
            std::this_thread::yield();
}

std::uint64_t PagerRig::stageAll() {
    eachBlock([&](BlockNumber block) {
        auto step = pager_->stage(block, Pager::HotBlocks::passOver);
        while (step == Step::hot)  // passed over so many times, and no more
            step = pager_->stage(block, Pager::HotBlocks::passOver);
        return step;
    });
    return pages_->count(PageState::staged);
}

std::uint64_t PagerRig::evictAll() {
    eachBlock([&](BlockNumber block) { return pager_->evict(block, Algorithm::zstd); });
    pager_->dropAllLeftovers();
    return pages_->count(PageState::cold) + pages_->count(PageState::filled);
}

std::uint64_t PagerRig::freezeAll() {
    eachBlock([&](BlockNumber block) { return pager_->freeze(block, {frozen_->age(), frozen_->age()}); });
    return pages_->count(PageState::frozen);
}

void PagerRig::restoreAll() {
    eachBlock([&](BlockNumber block) { return pager_->restore(block); });
    if (!frozen_) return;
    for (BlockNumber block = 0; block < pages_->blocks(); ++block)
        pager_->restoreFrozen(block);
    faults_->wake();
    frozen_->awaitWanted([] { return false; });
}

}  // namespace thermocline::memory::testing
