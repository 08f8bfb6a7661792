// SPDX-License-Identifier: Apache-2.0
#include "memory/status.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "memory/json_fields.h"

namespace thermocline::memory {
namespace {

// One list for both directions, so that a field can never be written but not read.
template <typename Visit, typename S>
void eachField(Visit&& visit, S& s) {
    visit("pid", s.pid);
    visit("state", s.state);
    visit("activity", s.activity);
    visit("mechanism", s.mechanism);
    visit("memory_bytes", s.memoryBytes);
    visit("resident_bytes", s.residentBytes);
    visit("staged_bytes", s.stagedBytes);
    visit("cold_bytes", s.coldBytes);
    visit("frozen_bytes", s.frozenBytes);
    visit("file_bytes", s.fileBytes);
    visit("file_tier", s.fileTier);
    visit("store_bytes", s.storeBytes);
    visit("metadata_bytes", s.metadataBytes);
    visit("used_bytes", s.usedBytes);
    visit("limit_bytes", s.limitBytes);
    visit("limit_met", s.limitMet);
    visit("limit_note", s.limitNote);
    visit("faults", s.faults);
    visit("staged_faults", s.stagedFaults);
    visit("cold_faults", s.coldFaults);
    visit("frozen_faults", s.frozenFaults);
    visit("zero_faults", s.zeroFaults);
    visit("lost_pages", s.lostPages);
    visit("lost_note", s.lostNote);
    visit("evicted_pages", s.evictedPages);
    visit("prefetched_pages", s.prefetchedPages);
    visit("proactive_max_stall", s.proactiveMaxStall);
    visit("min_resident_bytes", s.minResidentBytes);
    visit("policy", s.policy);
    visit("policy_note", s.policyNote);
    visit("stall_ns", s.stallNanoseconds);
    visit("stall_ratio", s.stallRatio);
    visit("attach_pause_us", s.attachPauseMicroseconds);
    visit("manager_rss_bytes", s.managerRssBytes);
}

/// What a manager that was started before an upgrade of the daemon does not know.
bool addedLater(std::string_view field) {
    constexpr std::string_view fields[] = {
        "prefetched_pages", "proactive_max_stall", "min_resident_bytes", "frozen_bytes",
        "file_bytes",       "file_tier",           "frozen_faults",      "policy",
        "policy_note",      "lost_pages",          "lost_note",          "activity"};
    return std::find(std::begin(fields), std::end(fields), field) != std::end(fields);
}

}  // namespace

void to_json(nlohmann::json& json, const Status& status) {
    json = nlohmann::json::object();
    eachField([&](const char* name, const auto& value) { json[name] = value; }, status);
}

void from_json(const nlohmann::json& json, Status& status) {
    const auto read = [&](const char* name, auto& value) {
        if (json.contains(name) || !addedLater(name)) readField(json.at(name), value);
    };
    eachField(read, status);
}

}  // namespace thermocline::memory
