// SPDX-License-Identifier: Apache-2.0
#include "daemon/host_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

namespace thermocline {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view trigger = "some 100000 1000000";
constexpr std::uint64_t thresholdMicroseconds = 100'000;
constexpr auto lookInterval = 500ms;

/// The number that follows `name`.
Result<std::uint64_t> numberAfter(std::string_view text, std::string_view name, std::string_view where) {
    const auto found = text.find(name);
    std::uint64_t number = 0;
    if (found != std::string_view::npos) {
        auto rest = text.substr(found + name.size());
        rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
        if (std::from_chars(rest.data(), rest.data() + rest.size(), number).ec == std::errc{}) return number;
    }
    return fail(ErrorCode::systemError, fmt::format("{} has no {}", where, name));
}

}  // namespace

Result<HostMemory> parseHostMemory(std::string_view meminfo) {
    constexpr std::string_view where = "/proc/meminfo";
    const auto total = numberAfter(meminfo, "MemTotal:", where);
    if (!total) return tl::unexpected<Error>(total.error());
    const auto available = numberAfter(meminfo, "MemAvailable:", where);
    if (!available) return tl::unexpected<Error>(available.error());
    return HostMemory{*total << 10U, *available << 10U};
}

Result<HostMemory> readHostMemory() {
    std::ifstream file("/proc/meminfo");
    return parseHostMemory(std::string{std::istreambuf_iterator<char>(file), {}});
}

Result<std::unique_ptr<HostPressure>> HostPressure::watch(EventLoop& loop, EventLoop::Task pressed,
                                                          const std::filesystem::path& path,
                                                          bool mayTrigger) {
    UniqueFd fd(mayTrigger ? ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK) : -1);
    // The terminating zero belongs to it.
    const bool armed =
        fd.valid() && ::write(fd.get(), trigger.data(), trigger.size() + 1) == std::ssize(trigger) + 1;
    const int refused = armed || !mayTrigger ? 0 : errno;
    if (!armed) fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid())
        return failErrno(fmt::format("open {}: the host's memory pressure is not known", path.string()));
    std::unique_ptr<HostPressure> pressure(new HostPressure(std::move(pressed), std::move(fd)));
    if (armed) {
        pressure->source_ =
            loop.watch(pressure->pressure_.get(), EPOLLPRI, [self = pressure.get()](std::uint32_t events) {
                if ((events & EPOLLERR) != 0) return self->source_.reset();
                self->pressed_();
            });
        return pressure;
    }
    const auto waited = pressure->waitedMicroseconds();
    if (!waited) return tl::unexpected<Error>(waited.error());
    if (refused != 0)
        spdlog::info("{}: {}; the host's memory pressure is looked at twice a second instead", path.string(),
                     std::strerror(refused));
    pressure->waited_ = *waited;
    pressure->timer_ = loop.every(lookInterval, [self = pressure.get()] { self->look(); });
    return pressure;
}

Result<std::uint64_t> HostPressure::waitedMicroseconds() const {
    std::array<char, 512> text{};
    const auto length = ::pread(pressure_.get(), text.data(), text.size(), 0);
    if (length < 0) return failErrno("read the host's memory pressure");
    return numberAfter(std::string_view(text.data(), static_cast<std::size_t>(length)), "total=", file);
}

void HostPressure::look() {
    const auto waited = waitedMicroseconds();
    if (!waited) return;
    const bool tight = *waited - waited_ >= thresholdMicroseconds / 2;
    waited_ = *waited;
    if (tight) pressed_();
}

}  // namespace thermocline
