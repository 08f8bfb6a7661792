// SPDX-License-Identifier: Apache-2.0
#include "memory/guest_ram.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "memory/attachment.h"
#include "memory/copy_hazards.h"
#include "memory/other_mappers.h"

namespace thermocline::memory {
namespace {

/// QEMU's own sizes: a number with b, k, M, G, T; `defaultFactor` applies where there is no suffix.
std::optional<std::uint64_t> parseQemuSize(std::string_view text, std::uint64_t defaultFactor) {
    std::uint64_t value = 0;
    const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (status != std::errc{}) return std::nullopt;
    const auto suffix = text.substr(static_cast<std::size_t>(rest - text.data()));
    std::uint64_t factor = defaultFactor;
    if (suffix.size() > 1) return std::nullopt;
    if (suffix.size() == 1) {
        switch (std::tolower(static_cast<unsigned char>(suffix[0]))) {
            case 'b':
                factor = 1;
                break;
            case 'k':
                factor = 1ULL << 10;
                break;
            case 'm':
                factor = 1ULL << 20;
                break;
            case 'g':
                factor = 1ULL << 30;
                break;
            case 't':
                factor = 1ULL << 40;
                break;
            default:
                return std::nullopt;
        }
    }
    if (value > UINT64_MAX / factor) return std::nullopt;
    return value * factor;
}

/// An option's properties, from either of QEMU's two forms: {"a": 1} or word,a=1,b=on.
class Properties {
  public:
    Properties(std::string_view text, std::string_view nameOfFirst) {
        if (text.starts_with('{')) {
            json_ = nlohmann::json::parse(text, nullptr, false);
            return;
        }
        for (bool first = true; !text.empty(); first = false) {
            const auto comma = text.find(',');
            const auto part = text.substr(0, comma);
            text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
            const auto equals = part.find('=');
            if (equals != std::string_view::npos)
                plain_[std::string(part.substr(0, equals))] = part.substr(equals + 1);
            else if (first)
                plain_[std::string(nameOfFirst)] = part;
        }
    }

    [[nodiscard]] std::string text(const std::string& name) const {
        if (json_.is_object()) {
            const auto found = json_.find(name);
            return found != json_.end() && found->is_string() ? found->get<std::string>() : std::string{};
        }
        const auto found = plain_.find(name);
        return found == plain_.end() ? std::string{} : found->second;
    }
    [[nodiscard]] bool flag(const std::string& name, bool otherwise = false) const {
        if (json_.is_object()) {
            const auto found = json_.find(name);
            return found != json_.end() && found->is_boolean() ? found->get<bool>() : otherwise;
        }
        const auto value = text(name);
        return value.empty() ? otherwise : value == "on" || value == "yes" || value == "true";
    }
    [[nodiscard]] std::optional<std::uint64_t> size(const std::string& name,
                                                    std::uint64_t defaultFactor) const {
        if (json_.is_object()) {
            const auto found = json_.find(name);
            if (found == json_.end() || !found->is_number_unsigned()) return std::nullopt;
            return found->get<std::uint64_t>();
        }
        return parseQemuSize(text(name), defaultFactor);
    }

  private:
    nlohmann::json json_;
    std::map<std::string, std::string> plain_;
};

void readObject(std::string_view value, QemuCommandLine& commandLine) {
    const Properties object(value, "qom-type");
    const auto type = object.text("qom-type");
    if (type.starts_with("memory-backend-")) {
        const bool isMemfd = type == "memory-backend-memfd";
        commandLine.backends.push_back({type, object.text("id"), object.size("size", 1).value_or(0),
                                        object.flag("share", isMemfd), object.flag("hugetlb")});
    } else if (type.starts_with("sev") || type.starts_with("tdx") || type == "s390-pv-guest" ||
               type == "pef-guest") {
        commandLine.encryption = type;
    }
}

}  // namespace

std::uint64_t GuestRam::bytes() const {
    std::uint64_t sum = 0;
    for (const auto& range : ranges)
        sum += range.bytes;
    return sum;
}

Result<QemuCommandLine> parseQemuCommandLine(std::string_view text) {
    std::vector<std::string_view> words;
    while (!text.empty()) {
        const auto end = text.find('\0');
        words.push_back(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    QemuCommandLine commandLine;
    std::optional<std::uint64_t> plainMemory;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const auto option = words[i].starts_with("--") ? words[i].substr(1) : words[i];
        if (option == "-enable-kvm") commandLine.kvm = true;
        if (i + 1 == words.size()) break;
        const auto value = words[i + 1];
        if (option == "-object") {
            readObject(value, commandLine);
        } else if (option == "-m") {
            plainMemory = Properties(value, "size").size("size", 1ULL << 20);
        } else if (option == "-uuid") {
            commandLine.uuid = value;
        } else if (option == "-overcommit") {
            commandLine.memoryLocked = Properties(value, "").flag("mem-lock");
        } else if (option == "-device") {
            const auto driver = Properties(value, "driver").text("driver");
            if (driver.starts_with("vfio-") && commandLine.pinningDevice.empty())
                commandLine.pinningDevice = driver;
            if (driver.starts_with("vhost-scsi") && commandLine.kernelDevice.empty())
                commandLine.kernelDevice = driver;
            if (driver.starts_with("vhost-user") && commandLine.sharingDevice.empty())
                commandLine.sharingDevice = driver;
            const bool memory = driver == "pc-dimm" || driver == "nvdimm" ||
                                driver.starts_with("virtio-mem") || driver.starts_with("virtio-pmem");
            if (memory && commandLine.memoryDevice.empty()) commandLine.memoryDevice = driver;
        } else if (option == "-accel" || option == "-machine" || option == "-M") {
            const Properties accelerator(value, option == "-accel" ? "accel" : "type");
            if (accelerator.text("accel").find("kvm") != std::string::npos) commandLine.kvm = true;
        } else if (option == "-cpu") {
            const Properties cpu(value, "model");
            commandLine.nestingOff = cpu.text("vmx") == "off" || cpu.text("svm") == "off";
        } else if (option == "-netdev") {
            const auto type = Properties(value, "type").text("type");
            if (type == "vhost-vdpa" && commandLine.pinningDevice.empty()) commandLine.pinningDevice = type;
            if (type == "vhost-user" && commandLine.sharingDevice.empty()) commandLine.sharingDevice = type;
        } else {
            continue;
        }
        ++i;
    }
    if (commandLine.backends.empty() && plainMemory)
        commandLine.backends.push_back({"memory-backend-ram", "pc.ram", *plainMemory, false, false});
    if (commandLine.backends.empty())
        return fail(
            ErrorCode::notSupported,
            "the process's command line names no guest RAM (-object memory-backend-... or -m): is it QEMU?");
    return commandLine;
}

Result<GuestRam> locateGuestRam(const QemuCommandLine& commandLine, const std::vector<Mapping>& mappings) {
    GuestRam ram;
    std::map<std::uint64_t, std::size_t> wanted;  // size -> how many backends have it
    for (const auto& backend : commandLine.backends) {
        const bool isPrivate = backend.type == "memory-backend-ram" && !backend.shared;
        const bool isShared = backend.shared && (backend.type == "memory-backend-memfd" ||
                                                 backend.type == "memory-backend-ram");
        const bool onHugetlbfs =
            backend.hugetlb || std::any_of(mappings.begin(), mappings.end(), [&](const Mapping& mapping) {
                return mapping.range.bytes == backend.bytes && mapping.hasFlag("ht");
            });
        if (onHugetlbfs)
            return fail(ErrorCode::notSupported,
                        fmt::format("guest RAM \"{}\" is on hugetlbfs, whose pages go back to their own pool "
                                    "only; use transparent huge pages instead (remove <hugepages/> from "
                                    "<memoryBacking>)",
                                    backend.id));
        if (!isPrivate && !isShared)
            return fail(
                ErrorCode::notSupported,
                fmt::format("guest RAM \"{}\" is {} {}; only anonymous memory, private or shared, and shared "
                            "memfd can be overcommitted: remove <memoryBacking> source from the domain, or "
                            "give it <source type='memfd'/><access mode='shared'/>",
                            backend.id, backend.shared ? "shared" : "private", backend.type));
        if (&backend != &commandLine.backends.front() && isShared != ram.shared)
            return fail(ErrorCode::notSupported,
                        "some of the guest's RAM is shared and some is not; give all of it the same access "
                        "mode in <memoryBacking> and <numa>");
        ram.shared = isShared;
        if (isShared && !commandLine.sharingDevice.empty())
            return fail(ErrorCode::notSupported,
                        fmt::format("device {} gives the guest's memory to another process, which would not "
                                    "see pages that are taken out; remove it from the domain",
                                    commandLine.sharingDevice));
        if (backend.bytes == 0)
            return fail(ErrorCode::notSupported,
                        fmt::format("guest RAM \"{}\" has no readable size", backend.id));
        ++wanted[backend.bytes];
    }
    for (const auto& [bytes, count] : wanted) {
        std::vector<VmRange> found;
        for (const auto& mapping : mappings) {
            const bool fits = ram.shared ? mapping.sharedWritable() : mapping.anonymousPrivateWritable();
            if (mapping.range.bytes != bytes || !fits) continue;
            if (mapping.hasFlag("um"))
                return fail(
                    ErrorCode::notSupported,
                    "another userfaultfd manages the guest RAM (a post-copy migration under way?); try again "
                    "when it has ended");
            if (mapping.hasFlag("lo") || mapping.lockedBytes != 0)
                return fail(ErrorCode::notSupported,
                            "guest RAM is locked; remove <locked/> from the domain's <memoryBacking>");
            // QEMU keeps guest RAM from its children; so a fork never sees a page that is moved aside as a
            // page of zeros.
            if (!mapping.hasFlag("dc")) continue;
            found.push_back(mapping.range);
        }
        if (found.size() != count)
            return fail(
                ErrorCode::notSupported,
                fmt::format("expected {} {} mapping(s) of {} bytes for the guest's RAM and found {}: not "
                            "certain which is which, so none is touched",
                            count, ram.shared ? "shared" : "private", bytes, found.size()));
        ram.ranges.insert(ram.ranges.end(), found.begin(), found.end());
    }
    std::sort(ram.ranges.begin(), ram.ranges.end(),
              [](const VmRange& a, const VmRange& b) { return a.start < b.start; });
    return ram;
}

Result<GuestRam> discoverGuestRam(pid_t pid, Mechanism forPrivate, SharedMemory shared) {
    const auto text = readProcFile(fmt::format("/proc/{}/cmdline", pid));
    if (!text) return tl::unexpected(text.error());
    const auto commandLine = parseQemuCommandLine(*text);
    if (!commandLine) return tl::unexpected(commandLine.error());
    if (!commandLine->encryption.empty())
        return fail(ErrorCode::notSupported,
                    fmt::format("the guest's memory is encrypted ({}); the host cannot move it",
                                commandLine->encryption));
    if (!commandLine->pinningDevice.empty())
        return fail(
            ErrorCode::notSupported,
            fmt::format(
                "device {} pins all guest RAM for DMA; use virtio devices, or leave this domain alone",
                commandLine->pinningDevice));
    if (commandLine->memoryLocked)
        return fail(ErrorCode::notSupported,
                    "guest RAM is locked; remove <locked/> from the domain's <memoryBacking>");
    const auto status = readProcFile(fmt::format("/proc/{}/status", pid));
    if (!status) return tl::unexpected(status.error());
    if (const auto pinned = statusField(*status, "VmPin"); pinned != 0)
        return fail(
            ErrorCode::notSupported,
            fmt::format("{} bytes of the process are pinned for DMA (VmPin); remove VFIO or vDPA devices",
                        pinned));
    if (auto attached = findAttachedDescriptor(pid); attached)
        return fail(ErrorCode::alreadyAttached, fmt::format("process {} is managed already", pid));
    const auto mappings = readMappings(pid);
    if (!mappings) return tl::unexpected(mappings.error());
    auto ram = locateGuestRam(*commandLine, *mappings);
    if (!ram) return ram;
    if (ram->shared && shared == SharedMemory::refuse)
        return fail(
            ErrorCode::notSupported,
            "guest RAM is shared, so that a vhost-user or virtiofs device which is plugged in later would "
            "read zeros and lose what it writes until that is noticed; where none ever is, start "
            "thermoclined with --mechanism unmap");
    ram->mechanism = ram->shared ? Mechanism::unmap : forPrivate;
    if (ram->mechanism != Mechanism::move) THERMOCLINE_TRY(refuseCopying(pid, *commandLine, ram->mechanism));
    if (ram->shared) THERMOCLINE_TRY(refuseOtherMappers(pid, ram->ranges));
    return ram;
}

}  // namespace thermocline::memory
