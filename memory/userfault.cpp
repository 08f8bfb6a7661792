// SPDX-License-Identifier: Apache-2.0
#include "memory/userfault.h"

#include <fmt/format.h>
#include <sys/ioctl.h>

namespace thermocline::memory {
namespace {

Populate populateResult(int result, std::int64_t error) {
    if (result == 0) return Populate::done;
    switch (error < 0 ? -error : errno) {
        case EEXIST:
            return Populate::present;
        case EAGAIN:
            return Populate::retry;
        case ENOENT:
        case EINVAL:
            return Populate::unmapped;
        case ESRCH:
            return Populate::gone;
        default:
            return Populate::failed;
    }
}

}  // namespace

Result<void> Userfault::enable(std::uint64_t features) {
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = features;
    if (::ioctl(fd_.get(), UFFDIO_API, &api) == 0) return {};
    if (errno == EINVAL)
        return fail(
            ErrorCode::notSupported,
            fmt::format(
                "this kernel's userfaultfd lacks features {:#x} (UFFDIO_MOVE needs Linux 6.8); boot a newer "
                "kernel",
                features));
    return failErrno("UFFDIO_API");
}

Result<void> Userfault::registerRange(VmRange range, std::uint64_t modes) {
    uffdio_register request{};
    request.range = {range.start.value, range.bytes};
    request.mode = modes;
    if (::ioctl(fd_.get(), UFFDIO_REGISTER, &request) == 0) return {};
    return failErrno(fmt::format("UFFDIO_REGISTER of {:#x}+{:#x}", range.start.value, range.bytes), errno,
                     errno == EBUSY ? ErrorCode::notSupported : ErrorCode::systemError);
}

Result<void> Userfault::unregister(VmRange range) {
    uffdio_range request{range.start.value, range.bytes};
    if (::ioctl(fd_.get(), UFFDIO_UNREGISTER, &request) == 0) return {};
    return failErrno(fmt::format("UFFDIO_UNREGISTER of {:#x}+{:#x}", range.start.value, range.bytes));
}

Populate Userfault::copy(VmAddress to, std::span<const std::byte> bytes, std::size_t& copied, Waking waking) {
    uffdio_copy request{};
    request.dst = to.value;
    request.src = reinterpret_cast<std::uint64_t>(bytes.data());
    request.len = bytes.size();
    request.mode = waking == Waking::later ? UFFDIO_COPY_MODE_DONTWAKE : 0;
    const int result = ::ioctl(fd_.get(), UFFDIO_COPY, &request);
    // A short copy fails with EAGAIN and says in `copy` how far it came; else `copy` repeats the error.
    copied = request.copy > 0 ? static_cast<std::size_t>(request.copy) : 0;
    return populateResult(result, request.copy);
}

Populate Userfault::zeroPage(VmAddress to) {
    uffdio_zeropage request{};
    request.range = {to.value, pageBytes};
    const int result = ::ioctl(fd_.get(), UFFDIO_ZEROPAGE, &request);
    return populateResult(result, request.zeropage);
}

Populate Userfault::mapFromFile(VmRange range, std::size_t& mapped) {
    uffdio_continue request{};
    request.range = {range.start.value, range.bytes};
    const int result = ::ioctl(fd_.get(), UFFDIO_CONTINUE, &request);
    mapped = request.mapped > 0 ? static_cast<std::size_t>(request.mapped) : 0;
    if (result != 0 && request.mapped == -EFAULT) return Populate::hole;
    return populateResult(result, request.mapped);
}

void Userfault::wake(VmRange range) {
    uffdio_range request{range.start.value, range.bytes};
    ::ioctl(fd_.get(), UFFDIO_WAKE, &request);
}

Populate Userfault::writeProtect(VmRange range, std::uint64_t mode) {
    uffdio_writeprotect request{};
    request.range = {range.start.value, range.bytes};
    request.mode = mode;
    return populateResult(::ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &request), 0);
}

Populate Userfault::protect(VmRange range) {
    return writeProtect(range, UFFDIO_WRITEPROTECT_MODE_WP);
}

Populate Userfault::unprotect(VmRange range) {
    return writeProtect(range, 0);
}

std::size_t Userfault::read(std::span<uffd_msg> messages) {
    const auto n = ::read(fd_.get(), messages.data(), messages.size_bytes());
    return n <= 0 ? 0 : static_cast<std::size_t>(n) / sizeof(uffd_msg);
}

}  // namespace thermocline::memory
