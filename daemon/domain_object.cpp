// SPDX-License-Identifier: Apache-2.0
#include "daemon/domain_object.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "daemon/bus.h"

namespace thermocline {
namespace {

DomainObject::Sample toBusSample(const db::Sample& sample) {
    const auto bytes = [](double level) { return static_cast<std::uint64_t>(std::llround(level)); };
    return DomainObject::Sample{static_cast<std::uint64_t>(sample.time.time_since_epoch().count()),
                                static_cast<std::uint32_t>(sample.span.count()),
                                bytes(sample.memory),
                                bytes(sample.resident),
                                bytes(sample.staged),
                                bytes(sample.cold),
                                bytes(sample.store),
                                bytes(sample.metadata),
                                bytes(sample.used),
                                bytes(sample.limit),
                                sample.faults,
                                sample.stagedFaults,
                                sample.coldFaults,
                                sample.zeroFaults,
                                sample.evictedPages,
                                sample.stallNanoseconds,
                                sample.stallRatioMax,
                                bytes(sample.frozen),
                                sample.frozenFaults};
}

Result<db::Resolution> parseResolution(const std::string& text) {
    if (text == "raw") return db::Resolution::raw;
    if (text == "minute") return db::Resolution::minute;
    if (text == "auto") return db::Resolution::automatic;
    return fail(ErrorCode::invalidArgument,
                fmt::format("\"{}\" is not a resolution; use raw, minute or auto", text));
}

}  // namespace

DomainObject::DomainObject(sdbus::IConnection& connection, PendingCalls& calls, Authorizer& authorizer,
                           Daemon& daemon, Domain& domain)
    : AdaptorInterfaces(connection, domainPath(domain.uuid())),
      calls_(calls),
      authorizer_(authorizer),
      daemon_(daemon),
      domain_(domain) {
    registerAdaptor();
    last_ = values();
    sendIfPossible([&] { emitInterfacesAddedSignal(); });
}

DomainObject::~DomainObject() {
    sendIfPossible([&] { emitInterfacesRemovedSignal(); });
    unregisterAdaptor();
}

DomainObject::Values DomainObject::values() {
    return {{"Name", Name()},
            {"Pid", std::uint64_t{Pid()}},
            {"Running", Running()},
            {"State", State()},
            {"StateNote", StateNote()},
            {"Managed", Managed()},
            {"HookPhase", HookPhase()},
            {"SettingsNote", SettingsNote()},
            {"Mechanism", Mechanism()},
            {"MemoryBytes", MemoryBytes()},
            {"ResidentBytes", ResidentBytes()},
            {"StagedBytes", StagedBytes()},
            {"ColdBytes", ColdBytes()},
            {"StoreBytes", StoreBytes()},
            {"FrozenBytes", FrozenBytes()},
            {"FileBytes", FileBytes()},
            {"FileTier", FileTier()},
            {"MetadataBytes", MetadataBytes()},
            {"UsedBytes", UsedBytes()},
            {"LimitBytes", LimitBytes()},
            {"LimitMet", LimitMet()},
            {"LimitNote", LimitNote()},
            {"Policy", Policy()},
            {"PolicyNote", PolicyNote()},
            {"ProactiveMaxStall", ProactiveMaxStall()},
            {"MinResidentBytes", MinResidentBytes()},
            {"Activity", Activity()},
            {"FreezePausedSeconds", std::uint64_t{FreezePausedSeconds()}},
            {"Priority", std::uint64_t{Priority()}},
            {"AllotmentBytes", AllotmentBytes()},
            {"AllotmentNote", AllotmentNote()},
            {"Faults", Faults()},
            {"StagedFaults", StagedFaults()},
            {"ColdFaults", ColdFaults()},
            {"FrozenFaults", FrozenFaults()},
            {"ZeroFaults", ZeroFaults()},
            {"LostPages", LostPages()},
            {"EvictedPages", EvictedPages()},
            {"PrefetchedPages", PrefetchedPages()},
            {"StallNanoseconds", StallNanoseconds()},
            {"StallRatio", StallRatio()},
            {"AttachPauseMicroseconds", AttachPauseMicroseconds()},
            {"ManagerRssBytes", ManagerRssBytes()}};
}

void DomainObject::emitChanges() {
    if (!dirty_) return;
    dirty_ = false;
    Values now = values();
    std::vector<std::string> changed;
    for (std::size_t i = 0; i < now.size(); ++i)
        if (now[i].second != last_[i].second) changed.emplace_back(now[i].first);
    last_ = std::move(now);
    if (changed.empty()) return;
    sendIfPossible([&] { emitPropertiesChangedSignal(Domain_adaptor::INTERFACE_NAME, changed); });
}

void DomainObject::change(sdbus::Result<>&& result, Work work) {
    auto done = calls_.take(std::move(result));
    authorizer_.check(senderOf(getObject()), Authorizer::Action::manageDomain, ownerOf(domain_.pid()),
                      {{"domain", domain_.name()}, {"uuid", domain_.uuid()}},
                      [alive = std::weak_ptr<bool>(alive_), work = std::move(work),
                       done = std::move(done)](Result<void> allowed) mutable {
                          if (!allowed) return done(std::move(allowed));
                          if (alive.expired())
                              return done(fail(ErrorCode::noSuchDomain, "the domain is gone meanwhile"));
                          work(std::move(done));
                      });
}

void DomainObject::Attach(sdbus::Result<>&& result) {
    change(std::move(result), [this](Domain::Done done) {
        // Whether a domain that is not attached runs is libvirt's to say; everything else is known without
        // it.
        if (domain_.idle())
            if (auto available = daemon_.checkHypervisor(); !available) return done(available);
        domain_.attach(std::move(done));
    });
}

void DomainObject::Detach(sdbus::Result<>&& result) {
    change(std::move(result), [this](Domain::Done done) { domain_.detach(std::move(done)); });
}

void DomainObject::SetLimit(sdbus::Result<>&& result, std::uint64_t bytes) {
    change(std::move(result), [this, bytes](Domain::Done done) { domain_.setLimit(bytes, std::move(done)); });
}

void DomainObject::ClearLimit(sdbus::Result<>&& result) {
    change(std::move(result), [this](Domain::Done done) { domain_.clearLimit(std::move(done)); });
}

void DomainObject::SetProactive(sdbus::Result<>&& result, double maxStall, std::uint64_t minResidentBytes) {
    change(std::move(result), [this, maxStall, minResidentBytes](Domain::Done done) {
        domain_.setProactive(maxStall, minResidentBytes, std::move(done));
    });
}

void DomainObject::SetPriority(sdbus::Result<>&& result, std::uint32_t priority) {
    change(std::move(result),
           [this, priority](Domain::Done done) { domain_.setPriority(priority, std::move(done)); });
}

void DomainObject::SetFreezePaused(sdbus::Result<>&& result, std::uint32_t seconds) {
    change(std::move(result),
           [this, seconds](Domain::Done done) { domain_.setFreezePaused(seconds, std::move(done)); });
}

void DomainObject::CloseFileTier(sdbus::Result<>&& result) {
    change(std::move(result), [this](Domain::Done done) { domain_.closeFileTier(std::move(done)); });
}

void DomainObject::GetHeat(sdbus::Result<std::uint64_t, std::vector<Piece>>&& result, std::uint32_t pieces) {
    domain_.heat(pieces, [answer = calls_.takeFor(std::move(result))](const Result<memory::HeatMap>& map) {
        if (!map) return answer(tl::unexpected<Error>(map.error()));
        std::vector<Piece> rows;
        rows.reserve(map->pieces.size());
        for (const auto& piece : map->pieces)
            rows.emplace_back(piece.hot, piece.resident, piece.staged, piece.cold);
        answer(std::tuple(map->workingSetBytes, std::move(rows)));
    });
}

std::vector<DomainObject::Sample> DomainObject::GetHistory(const std::uint64_t& since,
                                                           const std::uint64_t& until,
                                                           const std::string& resolution) {
    const auto parsed = parseResolution(resolution);
    if (!parsed) throw toBusError(parsed.error());
    // The second that runs is not over, but what is known of it is wanted too.
    const auto end = until == 0 ? db::systemNow() + std::chrono::seconds(1) : timeOnBus(until);
    const auto samples = daemon_.history().query(domain_.uuid(), timeOnBus(since), end, *parsed);
    if (!samples) throw toBusError(samples.error());
    std::vector<Sample> result;
    result.reserve(samples->size());
    for (const auto& sample : *samples)
        result.push_back(toBusSample(sample));
    return result;
}

std::string DomainObject::Name() {
    return domain_.name();
}
std::string DomainObject::Uuid() {
    return domain_.uuid();
}
std::uint32_t DomainObject::Pid() {
    return static_cast<std::uint32_t>(domain_.pid());
}
bool DomainObject::Running() {
    return domain_.running();
}
std::string DomainObject::State() {
    return std::string(stateName(domain_.state()));
}
std::string DomainObject::StateNote() {
    return domain_.stateNote();
}
bool DomainObject::Managed() {
    return domain_.managed();
}
std::string DomainObject::HookPhase() {
    return domain_.hookPhase();
}
std::string DomainObject::SettingsNote() {
    return domain_.settingsNote();
}
std::string DomainObject::Mechanism() {
    return domain_.support().mechanism;
}
bool DomainObject::Supported() {
    return domain_.support().usable;
}
std::string DomainObject::SupportReason() {
    return domain_.support().reason;
}
std::string DomainObject::SupportFix() {
    return domain_.support().fix;
}
std::uint64_t DomainObject::MemoryBytes() {
    return domain_.memoryBytes();
}
std::uint64_t DomainObject::ResidentBytes() {
    return domain_.status().residentBytes;
}
std::uint64_t DomainObject::StagedBytes() {
    return domain_.status().stagedBytes;
}
std::uint64_t DomainObject::ColdBytes() {
    return domain_.status().coldBytes;
}
std::uint64_t DomainObject::StoreBytes() {
    return domain_.status().storeBytes;
}
std::uint64_t DomainObject::FrozenBytes() {
    return domain_.status().frozenBytes;
}
std::uint64_t DomainObject::FileBytes() {
    return domain_.status().fileBytes;
}
std::string DomainObject::FileTier() {
    return domain_.status().fileTier;
}
std::uint64_t DomainObject::MetadataBytes() {
    return domain_.status().metadataBytes;
}
std::uint64_t DomainObject::UsedBytes() {
    return domain_.status().usedBytes;
}
std::uint64_t DomainObject::LimitBytes() {
    return domain_.limitBytes();
}
std::string DomainObject::Policy() {
    return domain_.status().policy;
}
std::string DomainObject::PolicyNote() {
    return domain_.status().policyNote;
}
double DomainObject::ProactiveMaxStall() {
    return domain_.proactive().maxStall;
}
std::uint64_t DomainObject::MinResidentBytes() {
    return domain_.proactive().minResidentBytes;
}
bool DomainObject::LimitMet() {
    return domain_.status().limitMet;
}
std::string DomainObject::LimitNote() {
    return domain_.limitNote();
}
std::string DomainObject::Activity() {
    return domain_.activity();
}
std::uint32_t DomainObject::FreezePausedSeconds() {
    return domain_.freezePausedSeconds();
}
std::uint32_t DomainObject::Priority() {
    return domain_.priority();
}
std::uint64_t DomainObject::AllotmentBytes() {
    return domain_.allotment();
}
std::string DomainObject::AllotmentNote() {
    return domain_.allotment() == 0 ? std::string() : domain_.allotmentNote();
}
std::uint64_t DomainObject::Faults() {
    return domain_.status().faults;
}
std::uint64_t DomainObject::StagedFaults() {
    return domain_.status().stagedFaults;
}
std::uint64_t DomainObject::ColdFaults() {
    return domain_.status().coldFaults;
}
std::uint64_t DomainObject::FrozenFaults() {
    return domain_.status().frozenFaults;
}
std::uint64_t DomainObject::ZeroFaults() {
    return domain_.status().zeroFaults;
}
std::uint64_t DomainObject::LostPages() {
    return domain_.status().lostPages;
}
std::uint64_t DomainObject::EvictedPages() {
    return domain_.status().evictedPages;
}
std::uint64_t DomainObject::PrefetchedPages() {
    return domain_.status().prefetchedPages;
}
std::uint64_t DomainObject::StallNanoseconds() {
    return domain_.status().stallNanoseconds;
}
double DomainObject::StallRatio() {
    return domain_.status().stallRatio;
}
std::uint64_t DomainObject::AttachPauseMicroseconds() {
    return domain_.status().attachPauseMicroseconds;
}
std::uint64_t DomainObject::ManagerRssBytes() {
    return domain_.status().managerRssBytes;
}

}  // namespace thermocline
