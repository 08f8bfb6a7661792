// SPDX-License-Identifier: Apache-2.0
#include "memory/return_frame.h"

#include <cpuid.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace thermocline::memory {
namespace {

// struct rt_sigframe and what it contains, of the kernel: the C library's types of these names have other
// sizes.
struct Context {
    std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags;
    std::uint16_t cs, gs, fs, ss;
    std::uint64_t error, trap, oldMask, cr2;
    std::uint64_t floatingPoint;  ///< address of the state; 0: that of a new thread
    std::uint64_t reserved[8];
};
struct Frame {
    std::uint64_t restorer;
    std::uint64_t contextFlags, link;
    std::uint64_t alternateStack, alternateStackFlags, alternateStackBytes;
    Context context;
    std::uint64_t mask;
    std::byte signalInfo[128];
};
static_assert(sizeof(Context) == 256 && sizeof(Frame) == 8 + 304 + 128);

constexpr std::uint64_t hasExtendedState = 1;
constexpr std::uint64_t hasStackSegment = 2 | 4;
// Flags that sigaltstack() does not know: the thread's alternate stack stays as it is.
constexpr std::uint64_t noAlternateStack = 0x7;

constexpr std::size_t legacyBytes = 512;
constexpr std::size_t softwareOffset = 464;
constexpr std::size_t headerBytes = 64;
constexpr std::uint32_t firstMagic = 0x46505853;
constexpr std::uint32_t secondMagic = 0x46505845;
// Tile data (AMX) is not part of a frame unless the process asked for it.
constexpr std::uint64_t dynamicFeatures = std::uint64_t{1} << 18;

struct Software {
    std::uint32_t magic, extendedBytes;
    std::uint64_t features;
    std::uint32_t bytes;
    std::uint32_t padding[7];
};
static_assert(softwareOffset + sizeof(Software) == legacyBytes);

/// How long a state with these features is, uncompacted.
std::size_t stateBytes(std::uint64_t features) {
    std::size_t end = legacyBytes + headerBytes;
    for (unsigned feature = 2; feature < 63; ++feature) {
        if ((features >> feature & 1) == 0) continue;
        unsigned size = 0, offset = 0, c = 0, d = 0;
        if (__get_cpuid_count(0xd, feature, &size, &offset, &c, &d) != 0)
            end = std::max<std::size_t>(end, offset + size);
    }
    return end;
}

/// As the kernel would have put it into a frame.
std::vector<std::byte> framedState(std::span<const std::byte> state) {
    std::array<std::byte, legacyBytes + headerBytes> head{};
    if (state.size() < head.size()) return {state.begin(), state.end()};  // no magic: FXRSTOR's
    std::copy_n(state.begin(), head.size(), head.begin());
    std::uint64_t features = 0;  // of the processor: the first of the words that are software's
    std::memcpy(&features, head.data() + softwareOffset, sizeof features);
    features &= ~dynamicFeatures;
    std::uint64_t present = 0;
    std::memcpy(&present, head.data() + legacyBytes, sizeof present);
    present &= features;
    std::memcpy(head.data() + legacyBytes, &present, sizeof present);
    const auto bytes = std::min(stateBytes(features), state.size());
    const Software software{firstMagic,
                            static_cast<std::uint32_t>(bytes + sizeof secondMagic),
                            features,
                            static_cast<std::uint32_t>(bytes),
                            {}};
    std::memcpy(head.data() + softwareOffset, &software, sizeof software);

    std::vector<std::byte> framed(head.begin(), head.end());
    const auto rest = state.first(bytes).subspan(head.size());
    framed.insert(framed.end(), rest.begin(), rest.end());
    const auto end = std::as_bytes(std::span(&secondMagic, 1));
    framed.insert(framed.end(), end.begin(), end.end());
    return framed;
}

}  // namespace

ReturnFrame makeReturnFrame(VmAddress below, const user_regs_struct& registers, std::uint64_t mask,
                            std::span<const std::byte> state, VmAddress restorer) {
    const auto framed = framedState(state);
    const auto stateStart = (below.value - framed.size()) & ~std::uint64_t{63};
    const auto start = (stateStart - sizeof(Frame)) & ~std::uint64_t{15};
    Frame frame{};
    frame.restorer = restorer.value;
    frame.contextFlags = hasStackSegment | (framed.empty() ? 0 : hasExtendedState);
    frame.alternateStackFlags = noAlternateStack;
    frame.mask = mask;
    auto& c = frame.context;
    c.r8 = registers.r8;
    c.r9 = registers.r9;
    c.r10 = registers.r10;
    c.r11 = registers.r11;
    c.r12 = registers.r12;
    c.r13 = registers.r13;
    c.r14 = registers.r14;
    c.r15 = registers.r15;
    c.di = registers.rdi;
    c.si = registers.rsi;
    c.bp = registers.rbp;
    c.bx = registers.rbx;
    c.dx = registers.rdx;
    c.ax = registers.rax;
    c.cx = registers.rcx;
    c.sp = registers.rsp;
    c.ip = registers.rip;
    c.flags = registers.eflags;
    c.cs = static_cast<std::uint16_t>(registers.cs);
    c.ss = static_cast<std::uint16_t>(registers.ss);
    c.floatingPoint = framed.empty() ? 0 : stateStart;
    // What the kernel does on the way out of a stop (arch_do_signal_or_restart): ERESTARTSYS, ERESTARTNOINTR,
    // ERESTARTNOHAND, ERESTART_RESTARTBLOCK. sigreturn does not.
    constexpr std::uint64_t syscallBytes = 2;
    const auto result = static_cast<std::int64_t>(registers.rax);
    if (static_cast<std::int64_t>(registers.orig_rax) >= 0 &&
        (result == -512 || result == -513 || result == -514 || result == -516)) {
        c.ax = result == -516 ? SYS_restart_syscall : registers.orig_rax;
        c.ip -= syscallBytes;
    }
    ReturnFrame made{{start}, std::vector<std::byte>(below.value - start)};
    std::memcpy(made.bytes.data(), &frame, sizeof frame);
    std::copy(framed.begin(), framed.end(),
              made.bytes.begin() + static_cast<std::ptrdiff_t>(stateStart - start));
    return made;
}

}  // namespace thermocline::memory
