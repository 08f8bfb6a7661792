// SPDX-License-Identifier: Apache-2.0
#include "bench/subject/ring3_guest.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace thermocline::bench {
namespace {

// Guest physical addresses, mapped one to one.
constexpr std::uint64_t topTable = 0x1000;
constexpr std::uint64_t secondTable = 0x2000;
constexpr std::uint64_t thirdTables = 0x3000;  // one for the first GiB (control), then one per GiB of RAM
constexpr std::uint64_t mostGibibytes = 12;
constexpr std::uint64_t stackTop = 0x1f000;
constexpr std::uint64_t codeAt = 0x20000;
constexpr std::uint64_t batchAt = 0x100000;
constexpr std::uint64_t ramAt = std::uint64_t{4} << 30;

// In C++ the header's struct kvm_cpuid2 has another size than in C (its flexible array), and so would the
// ioctls.
constexpr unsigned long getSupportedCpuid = _IOWR(KVMIO, 0x05, std::uint64_t);
constexpr unsigned long setCpuid2 = _IOW(KVMIO, 0x90, std::uint64_t);

constexpr std::uint64_t hugeBytes = std::uint64_t{2} << 20;
constexpr std::uint64_t gibibyte = std::uint64_t{1} << 30;
constexpr std::uint64_t tableEntries = 512;
constexpr std::uint64_t presentWritableUser = 7;
constexpr std::uint64_t largePage = 0x80;

std::string failed(const char* what) {
    return std::string(what) + ": " + std::strerror(errno);
}

kvm_segment segment(std::uint8_t type, std::uint16_t selector, bool code) {
    kvm_segment made{};
    made.limit = 0xffffffff;
    made.selector = selector;
    made.type = type;
    made.present = 1;
    made.dpl = 3;
    made.db = code ? 0 : 1;
    made.s = 1;
    made.l = code ? 1 : 0;
    made.g = 1;
    return made;
}

}  // namespace

std::unique_ptr<Ring3Guest> Ring3Guest::create(const VmRam& ram, std::string& problem) {
    std::unique_ptr<Ring3Guest> guest(new Ring3Guest(ram));
    problem = guest->start();
    return problem.empty() ? std::move(guest) : nullptr;
}

Ring3Guest::Ring3Guest(const VmRam& ram)
    : ram_(ram),
      controlBytes_((batchAt + BatchArea::bytesFor(ram.bytes() / pageBytes) + hugeBytes - 1) / hugeBytes *
                    hugeBytes) {}

Ring3Guest::~Ring3Guest() {
    if (state_ != nullptr) ::munmap(state_, stateBytes_);
    if (control_ != nullptr) ::munmap(control_, controlBytes_);
}

std::string Ring3Guest::start() {
    if (ram_.bytes() > mostGibibytes * gibibyte) return "a ring-3 guest has 12 GiB of RAM at most";
    void* const control =
        ::mmap(nullptr, controlBytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (control == MAP_FAILED) return failed("mmap");
    control_ = static_cast<std::byte*>(control);
    area_ = std::make_unique<BatchArea>(control_ + batchAt, batchAt, ramAt, ram_.bytes() / pageBytes);
    const auto code = guestCode();
    std::memcpy(control_ + codeAt, code.bytes.data(), code.bytes.size());
    makePageTables();
    if (auto problem = makeVm(); !problem.empty()) return problem;
    return makeVcpu();
}

void Ring3Guest::makePageTables() {
    const auto table = [&](std::uint64_t at) { return reinterpret_cast<std::uint64_t*>(control_ + at); };
    table(topTable)[0] = secondTable | presentWritableUser;
    const auto mapGibibyte = [&](std::uint64_t number, std::uint64_t at) {
        table(secondTable)[number] = at | presentWritableUser;
        for (std::uint64_t i = 0; i < tableEntries; ++i)
            table(at)[i] = (number * gibibyte + i * hugeBytes) | largePage | presentWritableUser;
    };
    mapGibibyte(0, thirdTables);
    for (std::uint64_t g = 0; g * gibibyte < ram_.bytes(); ++g)
        mapGibibyte(ramAt / gibibyte + g, thirdTables + (g + 1) * pageBytes);
}

std::string Ring3Guest::makeVm() {
    kvm_.reset(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm_.valid()) return failed("/dev/kvm");
    vm_.reset(::ioctl(kvm_.get(), KVM_CREATE_VM, 0));
    if (!vm_.valid()) return failed("KVM_CREATE_VM");
    const kvm_userspace_memory_region control{0, 0, 0, controlBytes_,
                                              reinterpret_cast<std::uintptr_t>(control_)};
    const kvm_userspace_memory_region ram{1, 0, ramAt, ram_.bytes(),
                                          reinterpret_cast<std::uintptr_t>(ram_.data())};
    for (const auto& slot : {control, ram})
        if (::ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &slot) != 0)
            return failed("KVM_SET_USER_MEMORY_REGION");
    return {};
}

std::string Ring3Guest::makeVcpu() {
    vcpu_.reset(::ioctl(vm_.get(), KVM_CREATE_VCPU, 0));
    if (!vcpu_.valid()) return failed("KVM_CREATE_VCPU");
    // struct kvm_cpuid2: the number of entries, padding, then the entries.
    constexpr std::uint32_t mostLeaves = 256;
    std::vector<std::uint64_t> leaves(1 + mostLeaves * sizeof(kvm_cpuid_entry2) / sizeof(std::uint64_t));
    leaves[0] = mostLeaves;
    if (::ioctl(kvm_.get(), getSupportedCpuid, leaves.data()) != 0 ||
        ::ioctl(vcpu_.get(), setCpuid2, leaves.data()) != 0)
        return failed("KVM_SET_CPUID2");
    const int bytes = ::ioctl(kvm_.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
    if (bytes <= 0) return failed("KVM_GET_VCPU_MMAP_SIZE");
    stateBytes_ = static_cast<std::size_t>(bytes);
    void* const state = ::mmap(nullptr, stateBytes_, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_.get(), 0);
    if (state == MAP_FAILED) return failed("mmap of the vCPU");
    state_ = static_cast<kvm_run*>(state);

    kvm_sregs system{};
    if (::ioctl(vcpu_.get(), KVM_GET_SREGS, &system) != 0) return failed("KVM_GET_SREGS");
    system.cr0 = 0x80000033;  // paging, protected mode
    system.cr3 = topTable;
    system.cr4 = 0x20;    // PAE
    system.efer = 0x501;  // long mode
    system.cs = segment(11, 0x33, true);
    system.ds = system.es = system.fs = system.gs = system.ss = segment(3, 0x2b, false);
    if (::ioctl(vcpu_.get(), KVM_SET_SREGS, &system) != 0) return failed("KVM_SET_SREGS");
    kvm_regs registers{};
    registers.rip = codeAt + guestCode().entry;
    registers.rflags = 0x3002;  // I/O privilege level 3: "out" is how a batch ends
    registers.rsp = stackTop;
    registers.rdi = area_->batchAddress();
    if (::ioctl(vcpu_.get(), KVM_SET_REGS, &registers) != 0) return failed("KVM_SET_REGS");
    return {};
}

std::string Ring3Guest::run() {
    for (;;) {
        if (::ioctl(vcpu_.get(), KVM_RUN, 0) != 0) {
            // A signal, or a tracer that stopped us: the guest goes on where it was.
            if (errno == EINTR || errno == EAGAIN) continue;
            return failed("KVM_RUN");
        }
        if (state_->exit_reason == KVM_EXIT_INTR) continue;
        if (state_->exit_reason == KVM_EXIT_IO) return {};
        return "the guest stopped with KVM exit reason " + std::to_string(state_->exit_reason);
    }
}

}  // namespace thermocline::bench
