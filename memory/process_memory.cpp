// SPDX-License-Identifier: Apache-2.0
#include "memory/process_memory.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "memory/kernel_abi.h"
#include "memory/process_map.h"

namespace thermocline::memory {
namespace {

/// What PAGEMAP_SCAN would say of pages that are present or swapped, from the table that every kernel has.
int readTable(int pagemap, VmAddress& start, VmAddress end, std::span<abi::PageRegion> regions) {
    constexpr std::uint64_t presentOrSwapped = std::uint64_t{3} << 62;
    std::array<std::uint64_t, 512> entries{};
    std::size_t found = 0;
    while (start < end) {
        const auto wanted = std::min<std::uint64_t>(entries.size(), (end - start) / pageBytes);
        const auto offset = static_cast<off_t>(start.value / pageBytes * sizeof entries[0]);
        const auto n = ::pread(pagemap, entries.data(), wanted * sizeof entries[0], offset);
        if (n <= 0) {
            if (n == 0) errno = ESRCH;  // as of a process that has ended
            return -1;
        }
        for (std::size_t i = 0; i < static_cast<std::size_t>(n) / sizeof entries[0]; ++i) {
            if ((entries[i] & presentOrSwapped) != 0) {
                if (found == 0 || regions[found - 1].end != start.value) {
                    if (found == regions.size()) return static_cast<int>(found);
                    regions[found++] = {start.value, start.value, 0};
                }
                regions[found - 1].end = start.value + pageBytes;
            }
            start = start + pageBytes;
        }
    }
    return static_cast<int>(found);
}

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
    if (found < 0 && errno == ENOTTY && allOf == 0) return readTable(pagemap, start, end, regions);
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

Result<ProcessMemory::Totals> ProcessMemory::totals() const {
    std::array<char, 4096> text{};
    const auto n = ::pread(status_.get(), text.data(), text.size(), 0);
    if (n <= 0) return fail(ErrorCode::processGone, "the VM's process has ended");
    const std::string_view status(text.data(), static_cast<std::size_t>(n));
    // A size in the field's unit; FDSize has none.
    return Totals{statusField(status, "VmPin"),
                  static_cast<std::uint32_t>(statusField(status, "FDSize") / 1024)};
}

bool ProcessMemory::isHuge(VmAddress block) const {
    std::array<abi::PageRegion, 1> region{};
    const auto start = block;
    return scan(pagemap_.get(), block, start + blockBytes, region, 0, abi::pageIsPresent | abi::pageIsHuge) ==
               1 &&
           region[0].end - region[0].start == blockBytes;
}

}  // namespace thermocline::memory
