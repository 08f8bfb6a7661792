// SPDX-License-Identifier: Apache-2.0
#include "memory/footprint.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "memory/json_fields.h"
#include "memory/process_map.h"

namespace thermocline::memory {

void to_json(nlohmann::json& json, const Footprint& f) {
    const auto range = [](const VmRange& r) { return nlohmann::json::array({r.start.value, r.bytes}); };
    json = {{"pid", f.pid},
            {"mechanism", mechanismName(f.mechanism)},
            {"start_time", f.startTime},
            {"guest_uffd", f.guestUffd},
            {"drop_uffd", f.dropUffd},
            {"control_fd", f.controlFd},
            {"kept_fds", f.kept},
            {"passing_fds", f.passing},
            {"threads", f.threads},
            {"code", range(f.code)},
            {"control", range(f.control)},
            {"scratch", range(f.scratch)},
            {"staging", range(f.staging)},
            {"pause_us", f.pauseMicroseconds},
            {"guest_ram", nlohmann::json::array()}};
    for (const auto& r : f.guestRam)
        json["guest_ram"].push_back(range(r));
}

void from_json(const nlohmann::json& json, Footprint& f) {
    const auto range = [](const nlohmann::json& pair) {
        return VmRange{{readField<std::uint64_t>(pair.at(0))}, readField<std::uint64_t>(pair.at(1))};
    };
    readField(json.at("pid"), f.pid);
    const auto mechanism = mechanismFromName(readField<std::string>(json.at("mechanism")));
    if (!mechanism)
        throw nlohmann::json::other_error::create(501, "no such mechanism", &json.at("mechanism"));
    f.mechanism = *mechanism;
    readField(json.at("start_time"), f.startTime);
    readField(json.at("guest_uffd"), f.guestUffd);
    readField(json.at("drop_uffd"), f.dropUffd);
    readField(json.at("control_fd"), f.controlFd);
    // A manager of before there were any has written none.
    f.kept.clear();
    for (const auto& fd : json.value("kept_fds", nlohmann::json::array()))
        f.kept.push_back(readField<int>(fd));
    f.passing.clear();
    for (const auto& fd : json.value("passing_fds", nlohmann::json::array()))
        f.passing.push_back(readField<int>(fd));
    for (std::size_t i = 0; i < f.threads.size(); ++i)
        readField(json.at("threads").at(i), f.threads.at(i));
    f.code = range(json.at("code"));
    f.control = range(json.at("control"));
    f.scratch = range(json.at("scratch"));
    f.staging = range(json.at("staging"));
    readField(json.at("pause_us"), f.pauseMicroseconds);
    f.guestRam.clear();
    for (const auto& r : json.at("guest_ram"))
        f.guestRam.push_back(range(r));
}

Result<Footprint> readFootprint(const std::string& path) {
    const auto text = readProcFile(path);
    if (!text) return tl::unexpected(text.error());
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    if (json.is_discarded()) return fail(ErrorCode::systemError, path + " is damaged");
    Footprint footprint;
    try {
        json.get_to(footprint);
    } catch (const nlohmann::json::exception& exception) {
        return fail(ErrorCode::systemError, fmt::format("{} is damaged: {}", path, exception.what()));
    }
    return footprint;
}

}  // namespace thermocline::memory
