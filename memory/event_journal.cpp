// SPDX-License-Identifier: Apache-2.0
#include "memory/event_journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

namespace thermocline::memory {
namespace {

constexpr std::uint64_t format = 0x3130'6c6e'726a'6374;  // "tcjrnl01"
/// A large address space takes a while to be torn down.
constexpr auto endPatience = std::chrono::seconds(5);

/// Stores that another process is to see in this order if we die between two of them: one processor does them
/// in the program's order, so only the compiler must be told.
template <typename T>
void store(T& where, T value) {
    std::atomic_ref(where).store(value, std::memory_order_release);
}

}  // namespace

struct EventJournal::Record {
    std::uint32_t applied;  // messages of the buffer that are
    std::uint32_t count;    // extents; more than mostExtents: too many
    std::array<AddressMap::Extent, mostExtents> extents;
};

struct EventJournal::File {
    alignas(pageBytes) std::uint64_t format;
    std::uint64_t blocks;
    std::uint32_t registered;
    std::uint32_t current;  // of the records
    // On a page of its own: read() writes here.
    alignas(pageBytes) std::array<uffd_msg, mostMessages> messages;
    alignas(pageBytes) std::array<Record, 2> records;
};

Result<EventJournal> EventJournal::map(UniqueFd fd, const std::string& path) {
    void* mapped =
        ::mmap(nullptr, sizeof(File), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
    if (mapped == MAP_FAILED) return failErrno("mapping " + path);
    EventJournal journal(std::move(fd), static_cast<File*>(mapped));
    if (::mlock(mapped, sizeof(File)) != 0) return failErrno("locking " + path + " in memory");
    return journal;
}

Result<EventJournal> EventJournal::create(const std::string& path, const AddressMap& addresses) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd.valid()) return failErrno(path);
    const auto refuse = [&](Result<EventJournal> why) {
        ::unlink(path.c_str());
        return why;
    };
    if (const int error = ::posix_fallocate(fd.get(), 0, sizeof(File)); error != 0)
        return refuse(failErrno("reserving " + path, error, ErrorCode::outOfMemory));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return refuse(failErrno("locking " + path));
    auto journal = map(std::move(fd), path);
    if (!journal) return refuse(std::move(journal));
    auto& file = *journal->file_;
    file.format = format;
    file.blocks = addresses.blocks();
    journal->write(file.records[0], addresses);
    return journal;
}

Result<EventJournal> EventJournal::open(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.valid()) return failErrno(path);
    const auto deadline = std::chrono::steady_clock::now() + endPatience;
    while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) return failErrno("locking " + path);
        if (std::chrono::steady_clock::now() > deadline)
            return fail(ErrorCode::busy, fmt::format("{} is in use: a manager of this VM lives", path));
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return failErrno(path);
    if (info.st_size != sizeof(File))
        return fail(ErrorCode::notSupported, fmt::format("{} is of another version, or damaged", path));
    auto journal = map(std::move(fd), path);
    if (!journal) return journal;
    const auto& file = *journal->file_;
    if (file.format != format || file.current > 1 || file.blocks == 0)
        return fail(ErrorCode::notSupported, fmt::format("{} is of another version, or damaged", path));
    const auto& record = file.records.at(file.current);
    if (record.count > mostExtents || record.applied > mostMessages)
        return fail(
            ErrorCode::notSupported,
            fmt::format("guest RAM is in more than {} pieces, which {} cannot hold", mostExtents, path));
    return journal;
}

Result<void> EventJournal::check(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info {};
    std::uint64_t itsFormat = 0;
    if (!fd.valid() || ::fstat(fd.get(), &info) != 0) return failErrno(path);
    if (info.st_size != sizeof(File) ||
        ::pread(fd.get(), &itsFormat, sizeof itsFormat, offsetof(File, format)) != sizeof itsFormat ||
        itsFormat != format)
        return fail(ErrorCode::notSupported, fmt::format("{} is of another version, or damaged", path));
    return {};
}

EventJournal::EventJournal(EventJournal&& other) noexcept
    : fd_(std::move(other.fd_)), file_(std::exchange(other.file_, nullptr)), moved_(other.moved_) {}

EventJournal::~EventJournal() {
    if (file_ != nullptr) ::munmap(file_, sizeof(File));
}

std::span<uffd_msg> EventJournal::buffer() {
    return file_->messages;
}

void EventJournal::write(Record& record, const AddressMap& addresses) {
    const auto& extents = addresses.extents();
    record.count = static_cast<std::uint32_t>(extents.size());
    for (std::size_t i = 0; i < std::min(extents.size(), mostExtents); ++i)
        record.extents.at(i) = extents[i];
}

void EventJournal::addresses(const AddressMap& addresses) {
    write(file_->records.at(1 - file_->current), addresses);
    moved_ = true;
}

void EventJournal::applied(std::size_t index) {
    const auto count = static_cast<std::uint32_t>(index + 1);
    if (!std::exchange(moved_, false)) return store(file_->records.at(file_->current).applied, count);
    store(file_->records.at(1 - file_->current).applied, count);
    store(file_->current, 1 - file_->current);
}

void EventJournal::forget(std::size_t count) {
    // From the end: what is left of them, if we die meanwhile, is counted as applied.
    for (auto i = count; i-- > 0;)
        store(file_->messages[i].event, __u8{0});
    auto& applied = file_->records.at(file_->current).applied;
    if (applied != 0) store(applied, 0U);
}

bool EventJournal::registered() const {
    return file_->registered != 0;
}

void EventJournal::setRegistered(bool registered) {
    store(file_->registered, registered ? 1U : 0U);
}

EventJournal::Unapplied EventJournal::unapplied() const {
    std::size_t end = 0;
    while (end < mostMessages && file_->messages.at(end).event != 0)
        ++end;
    return {std::min<std::size_t>(file_->records.at(file_->current).applied, end), end};
}

AddressMap EventJournal::addressMap() const {
    const auto& record = file_->records.at(file_->current);
    return {{record.extents.begin(), record.extents.begin() + record.count}, file_->blocks};
}

}  // namespace thermocline::memory
