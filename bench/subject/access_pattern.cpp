// SPDX-License-Identifier: Apache-2.0
#include "bench/subject/access_pattern.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "bench/subject/access_batch.h"
#include "bench/subject/page_content.h"

namespace thermocline::bench {
namespace {

class Uniform : public AccessPattern {
  public:
    Uniform(std::uint64_t first, std::uint64_t count) : first_(first), count_(count) {}

  protected:
    std::uint64_t nextPage() override { return first_ + randomBelow(count_); }
    void moveTo(std::uint64_t first) { first_ = first; }

  private:
    std::uint64_t first_;
    std::uint64_t count_;
};

/// The hot set hops half of the way round and a bit, so that it seldom overlaps the one before.
class Phases : public Uniform {
  public:
    Phases(std::uint64_t pages, std::uint64_t hotPages, double period)
        : Uniform(0, hotPages), places_(pages - hotPages + 1), period_(period) {}

  protected:
    void timePasses(double elapsed) override {
        if (elapsed < changed_) changed_ = elapsed;  // another run began
        if (elapsed - changed_ < period_) return;
        changed_ = elapsed;
        place_ = (place_ + places_ * 5 / 8) % places_;
        moveTo(place_);
    }

  private:
    std::uint64_t places_;
    std::uint64_t place_ = 0;
    double period_;
    double changed_ = 0;
};

class Strided : public AccessPattern {
  public:
    Strided(std::uint64_t pages, std::uint64_t stride) : pages_(pages), stride_(stride) {}

  protected:
    std::uint64_t nextPage() override {
        const auto page = next_;
        next_ += stride_;
        if (next_ >= pages_) next_ = (next_ % stride_ + 1) % stride_;
        return page;
    }

  private:
    std::uint64_t pages_;
    std::uint64_t stride_;
    std::uint64_t next_ = 0;
};

/// Sampled with Walker's alias method as set up by Vose (1991): two look-ups per number, whatever the
/// distribution.
class Zipf : public AccessPattern {
  public:
    explicit Zipf(std::uint64_t pages) : columns_(pages) {
        constexpr double exponent = 0.99;
        std::vector<std::uint32_t> order(pages);
        std::iota(order.begin(), order.end(), 0);
        for (std::uint64_t i = pages - 1; i > 0; --i)  // always the same permutation
            std::swap(order[i], order[mix(i) % (i + 1)]);
        std::vector<double> weight(pages);
        for (std::uint64_t rank = 0; rank < pages; ++rank)
            weight[order[rank]] = std::pow(static_cast<double>(rank + 1), -exponent);
        const auto mean = std::accumulate(weight.begin(), weight.end(), 0.0) / static_cast<double>(pages);
        std::vector<std::uint32_t> small;
        std::vector<std::uint32_t> large;
        for (std::uint32_t page = 0; page < pages; ++page) {
            weight[page] /= mean;
            (weight[page] < 1 ? small : large).push_back(page);
        }
        constexpr double whole = std::numeric_limits<std::uint32_t>::max();
        for (std::uint32_t page = 0; page < pages; ++page)
            columns_[page] = {std::numeric_limits<std::uint32_t>::max(), page};
        while (!small.empty() && !large.empty()) {
            const auto page = small.back();
            const auto other = large.back();
            small.pop_back();
            columns_[page] = {static_cast<std::uint32_t>(weight[page] * whole), other};
            weight[other] -= 1 - weight[page];
            if (weight[other] >= 1) continue;
            large.pop_back();
            small.push_back(other);
        }
    }

  protected:
    std::uint64_t nextPage() override {
        const auto page = randomBelow(columns_.size());
        const auto& column = columns_[page];
        return static_cast<std::uint32_t>(random()) <= column.keepBelow ? page : column.other;
    }

  private:
    struct Column {
        std::uint32_t keepBelow;  // of 2^32
        std::uint32_t other;
    };
    std::vector<Column> columns_;
};

std::unique_ptr<AccessPattern> make(const PatternOptions& options) {
    const bool hotFits = options.hotPages > 0 && options.hotPages <= options.pages;
    if (options.pages == 0 || options.pages >= writeFlag) return nullptr;
    if (options.workload == "random") return std::make_unique<Uniform>(0, options.pages);
    if (options.workload == "zipf") return std::make_unique<Zipf>(options.pages);
    if (options.workload == "sequential") return std::make_unique<Strided>(options.pages, 1);
    if (options.workload == "strided" && options.stride > 0 && options.stride <= options.pages)
        return std::make_unique<Strided>(options.pages, options.stride);
    if (options.workload == "hot-cold" && hotFits) return std::make_unique<Uniform>(0, options.hotPages);
    if (options.workload == "phases" && hotFits)
        return std::make_unique<Phases>(options.pages, options.hotPages, options.periodSeconds);
    return nullptr;
}

}  // namespace

std::uint64_t AccessPattern::random() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dULL;
}

void AccessPattern::fill(std::span<std::uint32_t> entries, double elapsed) {
    timePasses(elapsed);
    for (auto& entry : entries) {
        const bool write = static_cast<std::uint32_t>(random() >> 32) < writeBelow_;
        entry = static_cast<std::uint32_t>(nextPage()) | (write ? writeFlag : 0);
    }
}

std::unique_ptr<AccessPattern> makePattern(const PatternOptions& options) {
    auto pattern = make(options);
    if (pattern != nullptr)
        pattern->writeBelow_ =
            static_cast<std::uint32_t>(std::uint64_t{options.writePercent} * UINT32_MAX / 100);
    return pattern;
}

}  // namespace thermocline::bench
