// SPDX-License-Identifier: Apache-2.0
#include "memory/frozen_key.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <utility>

#include "memory/page.h"

namespace thermocline::memory {
namespace {

constexpr long memfdSecret = 447;  // SYS_memfd_secret, which Debian 12's headers know only where it is on

}  // namespace

Result<FrozenKey> FrozenKey::map(UniqueFd descriptor) {
    const bool secret = descriptor.valid();
    void* page = ::mmap(nullptr, pageBytes, PROT_READ | PROT_WRITE,
                        secret ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, descriptor.get(), 0);
    if (page == MAP_FAILED)
        return failErrno("mapping the file tier's key (is RLIMIT_MEMLOCK at least 4 KiB?)", errno,
                         ErrorCode::permissionDenied);
    FrozenKey key(std::move(descriptor), static_cast<unsigned char*>(page));
    // Secret memory is locked by its nature, and mlock() refuses it.
    if (!secret && ::mlock(page, pageBytes) != 0)
        return failErrno("mlock of the file tier's key (is RLIMIT_MEMLOCK at least 4 KiB?)", errno,
                         ErrorCode::permissionDenied);
    if (::madvise(page, pageBytes, MADV_DONTDUMP) != 0)
        return failErrno("MADV_DONTDUMP of the file tier's key");
    if (::madvise(page, pageBytes, MADV_DONTFORK) != 0)
        return failErrno("MADV_DONTFORK of the file tier's key");
    return key;
}

Result<FrozenKey> FrozenKey::draw() {
    UniqueFd descriptor(static_cast<int>(::syscall(memfdSecret, O_CLOEXEC)));
    if (descriptor.valid() && ::ftruncate(descriptor.get(), pageBytes) != 0)
        return failErrno("sizing the file tier's key");
    auto key = map(std::move(descriptor));
    if (!key) return key;
    for (std::size_t have = 0; have < keyBytes;) {
        const auto got = ::getrandom(key->page_ + have, keyBytes - have, 0);
        if (got < 0 && errno != EINTR) return failErrno("getrandom for the file tier's key");
        if (got > 0) have += static_cast<std::size_t>(got);
    }
    return key;
}

Result<FrozenKey> FrozenKey::take(UniqueFd descriptor) {
    struct statfs fileSystem {};
    struct stat info {};
    if (::fstatfs(descriptor.get(), &fileSystem) != 0 || ::fstat(descriptor.get(), &info) != 0)
        return failErrno("the file tier's key");
    // Its size is given once and for all: who else has it cannot make our mapping fault.
    if (fileSystem.f_type != SECRETMEM_MAGIC || info.st_size != static_cast<off_t>(pageBytes))
        return fail(ErrorCode::notSupported, "what was kept as the file tier's key is no secret memory");
    return map(std::move(descriptor));
}

FrozenKey::FrozenKey(FrozenKey&& other) noexcept
    : descriptor_(std::move(other.descriptor_)), page_(std::exchange(other.page_, nullptr)) {}

FrozenKey::~FrozenKey() {
    if (page_ == nullptr) return;
    if (!descriptor_.valid()) wipe();
    ::munmap(page_, pageBytes);
}

void FrozenKey::wipe() {
    OPENSSL_cleanse(page_, pageBytes);
}

}  // namespace thermocline::memory
