// SPDX-License-Identifier: Apache-2.0
#pragma once

// Finds sequential and strided streams in the fault stream, several at once (one per vCPU and more), and says
// what to bring along with a fault. A window doubles each time that its stream comes back for more, which is
// also the measure of its use: a stream that does not continue costs at most its last window. Pure logic, no
// clock; not thread-safe. After the stream tables of hardware prefetchers (Jouppi, ISCA 1990) and Linux'
// ondemand read-ahead.

#include <array>
#include <cstddef>
#include <cstdint>

namespace thermocline::memory {

/// Pages to bring along with the faulting one: `first`, `first + stride`, ... in pages of the VM's address
/// space.
struct Prefetch {
    std::int64_t first = 0;
    std::int64_t stride = 1;  ///< not 0; negative for a stream that runs downwards
    unsigned count = 0;
    bool established = false;  ///< the stream has come as far as the largest window
};

class StreamDetector {
  public:
    StreamDetector() = default;
    StreamDetector(const StreamDetector&) = delete;
    StreamDetector& operator=(const StreamDetector&) = delete;

    static constexpr unsigned firstWindow = 4;
    static constexpr unsigned maxWindow = 128;
    /// Strides up to this many pages are recognised.
    static constexpr std::int64_t maxStride = 256;

    /// A fault on `page` (address / 4096) that the store had to serve; count is 0 where it continues no
    /// stream. `together`, a power of two: so many pages, aligned, come with one that continues none, so that
    /// of a sequential stream only one fault for each of them is seen, on whichever page.
    Prefetch fault(std::int64_t page, unsigned together = 1);
    /// Of the stream that the last fault() continued, everything before `page` is there now.
    void reached(std::int64_t page) { latest_->next = page; }

  private:
    static constexpr std::size_t streamCount = 16;
    static constexpr std::size_t recentCount = 16;
    struct Stream {
        std::int64_t next = 0;    ///< first page that was not brought along
        std::int64_t stride = 0;  ///< 0: unused
        unsigned window = 0;
        std::uint64_t used = 0;  ///< for replacement: the longest unused goes
    };
    Prefetch advance(Stream& stream, std::int64_t page);
    Prefetch begin(std::int64_t page, std::int64_t stride, unsigned window);
    [[nodiscard]] bool recent(std::int64_t page) const;
    [[nodiscard]] bool recent(std::int64_t first, unsigned pages) const;

    std::array<Stream, streamCount> streams_{};
    std::array<std::int64_t, recentCount> recent_{};
    std::size_t recentEnd_ = 0;
    Stream* latest_ = streams_.data();
    std::uint64_t now_ = 0;
};

}  // namespace thermocline::memory
