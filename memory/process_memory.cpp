// SPDX-License-Identifier: Apache-2.0
#include "memory/process_memory.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "memory/kernel_abi.h"

namespace thermocline::memory {
namespace {

/// One PAGEMAP_SCAN call: fills `regions`, moves `start` to where the scan stopped, returns the number of
/// regions or -1.
int scan(int pagemap, VmAddress& start, VmAddress end, std::span<abi::PageRegion> regions,
         std::uint64_t anyOf, std::uint64_t allOf) {
    abi::PagemapScanArgument argument{};
    argument.size = sizeof argument;
    argument.start = start.value;
    argument.end = end.value;
    argument.regions = reinterpret_cast<std::uint64_t>(regions.data());
    argument.regionCount = regions.size();
    argument.categoryAnyOf = anyOf;
    argument.categoryMask = allOf;
    argument.returnMask = anyOf | allOf;
    const int found = ::ioctl(pagemap, abi::pagemapScan, &argument);
    start.value = argument.walkEnd;
    return found;
}

tl::unexpected<Error> accessError(const char* what, VmAddress at, ssize_t done) {
    if (done < 0 && errno == ESRCH) return fail(ErrorCode::processGone, "the VM's process has ended");
    // A read of 0 bytes means that the address space is gone.
    if (done == 0) return fail(ErrorCode::processGone, "the VM's process has ended");
    if (done < 0) return failErrno(fmt::format("{} the VM's memory at {:#x}", what, at.value));
    return fail(ErrorCode::systemError,
                fmt::format("{} the VM's memory at {:#x}: only {} bytes", what, at.value, done));
}

}  // namespace

Result<void> ProcessMemory::read(VmAddress from, std::span<std::byte> into) const {
    const auto n = ::pread(memory_.get(), into.data(), into.size(), static_cast<off_t>(from.value));
    if (n != static_cast<ssize_t>(into.size())) return accessError("reading", from, n);
    return {};
}

Result<void> ProcessMemory::write(VmAddress to, std::span<const std::byte> bytes) const {
    const auto n = ::pwrite(memory_.get(), bytes.data(), bytes.size(), static_cast<off_t>(to.value));
    if (n != static_cast<ssize_t>(bytes.size())) return accessError("writing", to, n);
    return {};
}

Result<void> ProcessMemory::forEachPopulated(VmRange range, const std::function<void(VmRange)>& found) const {
    std::vector<abi::PageRegion> regions(512);
    for (VmAddress at = range.start; at < range.end();) {
        const int n =
            scan(pagemap_.get(), at, range.end(), regions, abi::pageIsPresent | abi::pageIsSwapped, 0);
        if (n < 0)
            return failErrno("PAGEMAP_SCAN", errno,
                             errno == ESRCH ? ErrorCode::processGone : ErrorCode::systemError);
        for (int i = 0; i < n; ++i)
            found({{regions[i].start}, regions[i].end - regions[i].start});
    }
    return {};
}

bool ProcessMemory::populated(VmAddress page) const {
    std::array<abi::PageRegion, 1> region{};
    return scan(pagemap_.get(), page, page + pageBytes, region, abi::pageIsPresent | abi::pageIsSwapped, 0) ==
           1;
}

bool ProcessMemory::isHuge(VmAddress block) const {
    std::array<abi::PageRegion, 1> region{};
    const auto start = block;
    return scan(pagemap_.get(), block, start + blockBytes, region, 0, abi::pageIsPresent | abi::pageIsHuge) ==
               1 &&
           region[0].end - region[0].start == blockBytes;
}

}  // namespace thermocline::memory
