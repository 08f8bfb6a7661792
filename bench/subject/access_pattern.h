// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which pages a workload touches, in which order. Every pattern goes on where it stopped. Not thread-safe.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace thermocline::bench {

struct PatternOptions {
    std::string workload;        ///< a name that makePattern knows
    std::uint64_t pages = 0;     ///< of all memory
    std::uint64_t hotPages = 0;  ///< hot-cold and phases: size of the hot set
    double periodSeconds = 1;    ///< phases: how long the hot set stays at one place
    std::uint64_t stride = 8;    ///< strided: pages from one access to the next
    unsigned writePercent = 20;  ///< of all accesses
    bool operator==(const PatternOptions&) const = default;
};

class AccessPattern {
  public:
    virtual ~AccessPattern() = default;
    AccessPattern(const AccessPattern&) = delete;
    AccessPattern& operator=(const AccessPattern&) = delete;

    /// Entries for access_batch.h. `elapsed`: seconds since the run began, for patterns that change with
    /// time.
    void fill(std::span<std::uint32_t> entries, double elapsed);

  protected:
    AccessPattern() = default;
    [[nodiscard]] virtual std::uint64_t nextPage() = 0;
    virtual void timePasses(double /*elapsed*/) {}
    /// 64 random bits.
    std::uint64_t random();
    std::uint64_t randomBelow(std::uint64_t bound) { return ((random() >> 32) * bound) >> 32; }

  private:
    friend std::unique_ptr<AccessPattern> makePattern(const PatternOptions& options);
    std::uint64_t state_ = 88172645463325252;
    std::uint32_t writeBelow_ = 0;  // of 2^32
};

/// random: uniform. zipf: exponent 0.99, ranks scattered over all pages. sequential: a cyclic scan. strided:
/// every stride-th page, then the same shifted by one. hot-cold: uniform over the first hotPages. phases:
/// uniform over hotPages that move to another place every period. Null for another name, or where hotPages or
/// stride do not fit.
std::unique_ptr<AccessPattern> makePattern(const PatternOptions& options);

}  // namespace thermocline::bench
