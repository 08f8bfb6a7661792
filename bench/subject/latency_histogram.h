// SPDX-License-Identifier: Apache-2.0
#pragma once

// Counts durations in buckets that are a sixteenth of a power of two wide: a quantile is exact to 6 %. Not
// thread-safe.

#include <array>
#include <bit>
#include <cstdint>

namespace thermocline::bench {

class LatencyHistogram {
  public:
    void add(std::uint32_t cycles) {
        ++buckets_[bucketOf(cycles)];
        ++count_;
        if (cycles > longest_) longest_ = cycles;
    }

    [[nodiscard]] std::uint64_t count() const { return count_; }
    [[nodiscard]] std::uint32_t longest() const { return longest_; }
    /// The middle of the bucket in which `share` (0 to 1) of all values are reached; 0 without values.
    [[nodiscard]] double quantile(double share) const {
        const auto wanted = share * static_cast<double>(count_);
        double seen = 0;
        for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
            seen += static_cast<double>(buckets_[bucket]);
            if (buckets_[bucket] != 0 && seen >= wanted) return (lowest(bucket) + lowest(bucket + 1) - 1) / 2;
        }
        return 0;
    }

  private:
    static constexpr unsigned stepBits = 4;
    static constexpr std::uint32_t steps = 1U << stepBits;

    static std::size_t bucketOf(std::uint32_t value) {
        if (value < steps) return value;
        const auto shift = static_cast<unsigned>(std::bit_width(value)) - stepBits - 1;
        return (shift + 1) * steps + ((value >> shift) & (steps - 1));
    }
    static double lowest(std::size_t bucket) {
        if (bucket < steps) return static_cast<double>(bucket);
        const auto shift = bucket / steps - 1;
        return static_cast<double>((steps + std::uint64_t{bucket % steps}) << shift);
    }

    std::array<std::uint64_t, (32 - stepBits + 1) * steps> buckets_{};
    std::uint64_t count_ = 0;
    std::uint32_t longest_ = 0;
};

}  // namespace thermocline::bench
