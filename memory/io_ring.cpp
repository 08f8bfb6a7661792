// SPDX-License-Identifier: Apache-2.0
#include "memory/io_ring.h"

#include <liburing.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

namespace thermocline::memory {
namespace {

constexpr std::uint64_t nobody = UINT64_MAX;

/// Debian 12's liburing declares functions for these, but does not export them.
long control(const io_uring& ring, unsigned operation, const void* argument, std::size_t count) {
    return ::syscall(__NR_io_uring_register, ring.ring_fd, operation, argument, count);
}

tl::unexpected<Error> failSetup(int error) {
    switch (error) {
        case EPERM:
        case EACCES:
            return failErrno(
                "io_uring is switched off here (sysctl kernel.io_uring_disabled, or a seccomp filter)", error,
                ErrorCode::permissionDenied);
        case ENOSYS:
        case EINVAL:
            return failErrno("this kernel's io_uring is too old (5.10 is needed)", error,
                             ErrorCode::notSupported);
        case ENOMEM:
            return failErrno("no memory for an io_uring (is RLIMIT_MEMLOCK very low?)", error,
                             ErrorCode::outOfMemory);
        default:
            return failErrno("setting up an io_uring", error);
    }
}

}  // namespace

IoRing::IoRing() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), ring_(std::make_unique<io_uring>()) {}

Result<std::unique_ptr<IoRing>> IoRing::create(unsigned entries) {
    std::unique_ptr<IoRing> ring(new IoRing);
    if (!ring->event_.valid()) return failErrno("eventfd");
    // Disabled until it is restricted.
    if (const int error = ::io_uring_queue_init(entries, ring->ring_.get(), IORING_SETUP_R_DISABLED);
        error != 0)
        return failSetup(-error);
    ring->ready_ = true;
    std::array<io_uring_restriction, 3> allowed{};
    for (auto& one : allowed)
        one.opcode = IORING_RESTRICTION_SQE_OP;
    allowed[0].sqe_op = IORING_OP_READ;
    allowed[1].sqe_op = IORING_OP_WRITE;
    allowed[2].sqe_op = IORING_OP_NOP;
    if (const int error = ::io_uring_register_eventfd(ring->ring_.get(), ring->event_.get()); error != 0)
        return failSetup(-error);
    if (control(*ring->ring_, IORING_REGISTER_RESTRICTIONS, allowed.data(), allowed.size()) != 0 ||
        control(*ring->ring_, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) != 0)
        return failSetup(errno);
    return ring;
}

IoRing::~IoRing() {
    while (wait()) {
    }
    if (ready_) ::io_uring_queue_exit(ring_.get());
}

Result<void> IoRing::read(int file, std::span<std::byte> into, std::uint64_t offset, std::uint64_t token) {
    auto* entry = ::io_uring_get_sqe(ring_.get());
    if (entry == nullptr) return fail(ErrorCode::busy, "the io_uring is full");
    ::io_uring_prep_read(entry, file, into.data(), static_cast<unsigned>(into.size()), offset);
    return submit(entry, token);
}

Result<void> IoRing::write(int file, std::span<const std::byte> from, std::uint64_t offset,
                           std::uint64_t token) {
    auto* entry = ::io_uring_get_sqe(ring_.get());
    if (entry == nullptr) return fail(ErrorCode::busy, "the io_uring is full");
    ::io_uring_prep_write(entry, file, from.data(), static_cast<unsigned>(from.size()), offset);
    return submit(entry, token);
}

Result<void> IoRing::submit(void* entry, std::uint64_t token) {
    auto* operation = static_cast<io_uring_sqe*>(entry);
    ::io_uring_sqe_set_data64(operation, token);
    int result = 0;
    while (::io_uring_sq_ready(ring_.get()) > 0 && (result >= 0 || result == -EINTR))
        result = ::io_uring_submit(ring_.get());
    if (result >= 0 || result == -EINTR) {
        ++underWay_;
        return {};
    }
    // It is in the queue, and would be taken along by the next submission, when the caller has long given up:
    // what the kernel has not taken yet may still be turned into nothing.
    ::io_uring_prep_nop(operation);
    ::io_uring_sqe_set_data64(operation, nobody);
    const bool passing = result == -EAGAIN || result == -EBUSY || result == -ENOMEM;
    return failErrno("io_uring_enter", -result, passing ? ErrorCode::busy : ErrorCode::systemError);
}

std::optional<IoRing::Done> IoRing::next() {
    io_uring_cqe* entry = nullptr;
    while (ready_ && ::io_uring_peek_cqe(ring_.get(), &entry) == 0) {
        const Done done{::io_uring_cqe_get_data64(entry), entry->res};
        ::io_uring_cqe_seen(ring_.get(), entry);
        if (done.token == nobody) continue;
        --underWay_;
        return done;
    }
    return std::nullopt;
}

std::optional<IoRing::Done> IoRing::wait() {
    while (underWay_ > 0) {
        if (auto done = next()) return done;
        io_uring_cqe* entry = nullptr;
        ::io_uring_wait_cqe(ring_.get(), &entry);  // EINTR: look again
    }
    return std::nullopt;
}

void IoRing::raiseEvent() const {
    ::eventfd_write(event_.get(), 1);
}

void IoRing::clearEvent() const {
    eventfd_t count = 0;
    ::eventfd_read(event_.get(), &count);
}

}  // namespace thermocline::memory
