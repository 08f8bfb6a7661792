// SPDX-License-Identifier: Apache-2.0
#include "memory/page_map.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <utility>

namespace thermocline::memory {

Result<PageMap> PageMap::create(const std::string& path, std::uint64_t blocks) {
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.valid()) return failErrno(path);
    const auto bytes = blocks * pagesPerBlock * sizeof(PageEntry);
    // Reserved now: a full file system must show here, not as a SIGBUS on the fault path.
    if (const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes)); error != 0) {
        ::unlink(path.c_str());
        return failErrno("reserving " + path, error, ErrorCode::outOfMemory);
    }
    void* entries = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (entries == MAP_FAILED) return failErrno("mapping " + path);
    return PageMap(std::move(file), static_cast<PageEntry*>(entries), blocks);
}

Result<PageMap> PageMap::open(const std::string& path, std::uint64_t blocks) {
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!file.valid()) return failErrno(path);
    const auto bytes = blocks * pagesPerBlock * sizeof(PageEntry);
    struct stat info {};
    if (::fstat(file.get(), &info) != 0) return failErrno(path);
    if (info.st_size != static_cast<off_t>(bytes))
        return fail(ErrorCode::systemError,
                    fmt::format("{} is damaged: it has {} bytes, not {}", path, info.st_size, bytes));
    void* entries = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (entries == MAP_FAILED) return failErrno("mapping " + path);
    PageMap map(std::move(file), static_cast<PageEntry*>(entries), blocks);
    if (!map.recount())
        return fail(ErrorCode::systemError, path + " is damaged: a page is in a state that there is not");
    return map;
}

PageMap::PageMap(UniqueFd file, PageEntry* entries, std::uint64_t blocks)
    : file_(std::move(file)), entries_(entries), blocks_(blocks) {
    counts_[static_cast<std::size_t>(PageState::absent)] = blocks * pagesPerBlock;
}

PageMap::PageMap(PageMap&& other) noexcept
    : file_(std::move(other.file_)),
      entries_(std::exchange(other.entries_, nullptr)),
      blocks_(other.blocks_) {
    for (std::size_t i = 0; i < counts_.size(); ++i)
        counts_[i] = other.counts_[i].load();
}

bool PageMap::recount() {
    std::array<std::uint64_t, pageStates> counts{};
    for (PageNumber page = 0; page < firstPageOf(blocks_); ++page) {
        const auto state = static_cast<std::size_t>(entries_[page].state());
        if (state >= pageStates) return false;
        ++counts.at(state);
    }
    for (std::size_t i = 0; i < pageStates; ++i)
        counts_.at(i) = counts.at(i);
    return true;
}

PageMap::~PageMap() {
    if (entries_ != nullptr) ::munmap(entries_, metadataBytes());
}

void PageMap::setAll(PageNumber first, std::uint64_t count, PageEntry entry) {
    // Counters once per run of equal states, not once per page: a large VM has tens of millions of them.
    for (auto page = first; page < first + count;) {
        const auto before = entries_[page].state();
        std::uint64_t run = 0;
        for (; page < first + count && entries_[page].state() == before; ++page, ++run)
            std::atomic_ref(entries_[page]).store(entry, std::memory_order_relaxed);  // see peek()
        if (before == entry.state()) continue;
        counts_[static_cast<std::size_t>(before)].fetch_sub(run, std::memory_order_relaxed);
        counts_[static_cast<std::size_t>(entry.state())].fetch_add(run, std::memory_order_relaxed);
    }
}

BlockMask PageMap::pagesIn(BlockNumber block, PageState state) const {
    BlockMask mask;
    const auto* entry = entries_ + firstPageOf(block);
    for (std::size_t i = 0; i < pagesPerBlock; ++i)
        if (entry[i].state() == state) mask.set(i);
    return mask;
}

}  // namespace thermocline::memory
