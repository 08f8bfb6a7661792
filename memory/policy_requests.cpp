// SPDX-License-Identifier: Apache-2.0
#include "memory/policy_requests.h"

#include <utility>

namespace thermocline::memory {
namespace {

std::int64_t nowMilliseconds() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace

void PolicyRequests::replace(List list, std::vector<Blocks> order) {
    const bool any = !order.empty();
    Queue queue{std::move(order), 0};
    const std::lock_guard lock(mutex_);
    std::swap(queues_[static_cast<std::size_t>(list)], queue);
    if (list == List::bringBack) wantsBack_ = any;
}

void PolicyRequests::keep(Blocks blocks, std::chrono::milliseconds time) {
    const auto until = time.count() == 0 ? 0 : nowMilliseconds() + time.count();
    for (auto block = blocks.first; block < blocks.first + blocks.count; ++block)
        keptUntil_[block].store(until, std::memory_order_relaxed);
}

bool PolicyRequests::keeps(BlockNumber block) const {
    const auto until = keptUntil_[block].load(std::memory_order_relaxed);
    return until != 0 && until > nowMilliseconds();
}

void PolicyRequests::clear() {
    for (const auto list : {List::stage, List::evict, List::bringBack})
        replace(list, {});
    keep({0, blocks()}, std::chrono::milliseconds(0));
}

std::optional<BlockNumber> PolicyRequests::next(List list) {
    const std::lock_guard lock(mutex_);
    auto& queue = queues_[static_cast<std::size_t>(list)];
    while (queue.next < queue.order.size()) {
        auto& blocks = queue.order[queue.next];
        if (blocks.count == 0) {
            ++queue.next;
            continue;
        }
        --blocks.count;
        return blocks.first++;
    }
    if (list == List::bringBack) wantsBack_ = false;
    return std::nullopt;
}

}  // namespace thermocline::memory
