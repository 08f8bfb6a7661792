// SPDX-License-Identifier: Apache-2.0
#include "bench/subject/access_batch.h"

// Made by the linker around the section.
extern "C" const std::byte __start_thermocline_bench_code[];
extern "C" const std::byte __stop_thermocline_bench_code[];
extern "C" const std::byte thermoclineBenchGuestEntry[];

asm(R"(
    .pushsection thermocline_bench_code, "ax", @progbits
    .globl thermoclineBenchGuestEntry
    .hidden thermoclineBenchGuestEntry
thermoclineBenchGuestEntry:
    push %rdi
    push %rdi
    call thermoclineBenchAccess
    pop %rdi
    pop %rdi
    mov $0x10, %dx
    mov $1, %al
    out %al, %dx
    jmp thermoclineBenchGuestEntry
    .popsection
)");

namespace thermocline::bench {
namespace {

/// In program order: what comes before has its value, what comes after has not begun.
[[gnu::always_inline]] inline std::uint64_t cycles() {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("lfence\n rdtsc\n lfence" : "=a"(low), "=d"(high) : : "memory");
    return std::uint64_t{high} << 32 | low;
}

}  // namespace

extern "C" [[gnu::section("thermocline_bench_code"), gnu::visibility("hidden")]] void thermoclineBenchAccess(
    AccessBatch* batch) {
    auto* const expected = reinterpret_cast<std::uint64_t*>(batch->expected);
    const auto* const entries = reinterpret_cast<const std::uint32_t*>(batch->entries);
    auto* const samples = reinterpret_cast<std::uint32_t*>(batch->samples);
    const auto ram = batch->ram;
    std::uint64_t timed = 0;
    std::uint64_t wrong = 0;
    std::uint64_t untilSample = 0;
    for (std::uint64_t i = 0; i < batch->count; ++i) {
        const std::uint64_t page = entries[i] & ~writeFlag;
        auto* const word =
            reinterpret_cast<volatile std::uint64_t*>(ram + page * pageBytes + tagOffset(page));
        const auto want = expected[page];
        const bool sampled = untilSample == 0;
        untilSample = sampled ? sampleInterval - 1 : untilSample - 1;
        const auto began = sampled ? cycles() : 0;
        const auto tag = *word;
        if (tag != want) {
            ++wrong;
            batch->lastWrong = page;
        }
        if ((entries[i] & writeFlag) != 0) {
            const auto next = nextTag(page, want);
            *word = next;
            expected[page] = next;
        }
        if (sampled) {
            const auto took = cycles() - began;
            samples[timed++] = took > UINT32_MAX ? UINT32_MAX : static_cast<std::uint32_t>(took);
        }
    }
    batch->sampleCount = timed;
    batch->wrong = wrong;
}

GuestCode guestCode() {
    return {{__start_thermocline_bench_code, __stop_thermocline_bench_code},
            static_cast<std::size_t>(thermoclineBenchGuestEntry - __start_thermocline_bench_code)};
}

}  // namespace thermocline::bench
