// SPDX-License-Identifier: Apache-2.0
#include "bench/subject/vm_ram.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

namespace thermocline::bench {
namespace {

constexpr std::uint64_t hugeBytes = std::uint64_t{2} << 20;

[[noreturn]] void refuse(const char* what) {
    std::perror(what);
    std::exit(1);
}

}  // namespace

VmRam::VmRam(std::uint64_t bytes, bool huge) : bytes_(bytes) {
    // A huge page more on either side: room to align, and no neighbour that the mapping could merge with.
    void* const reserved =
        ::mmap(nullptr, bytes + 2 * hugeBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) refuse("mmap");
    reserved_ = static_cast<std::byte*>(reserved);
    data_ = reserved_ + (hugeBytes - reinterpret_cast<std::uintptr_t>(reserved) % hugeBytes);
    if (::mmap(data_, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
        MAP_FAILED)
        refuse("mmap");
    if (::madvise(data_, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) != 0) refuse("madvise(HUGEPAGE)");
    if (::madvise(data_, bytes, MADV_DONTFORK) != 0) refuse("madvise(DONTFORK)");
}

VmRam::~VmRam() {
    ::munmap(reserved_, bytes_ + 2 * hugeBytes);
}

}  // namespace thermocline::bench
