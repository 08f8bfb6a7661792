// SPDX-License-Identifier: Apache-2.0

// What a policy may ask (policy/thermocline_policy.h), checked before anything is done. Runs on the policy's
// threads, one at a time. Nothing here waits, except for a moment on the pager's layout lock.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>

#include "memory/policy_session.h"

namespace thermocline::memory {

using Context = thermocline_policy_context;

int PolicySession::invalid(const std::string& what) {
    if (++invalid_ > mostInvalid)
        switchOff(fmt::format("it asked {} times for what cannot be; the last time for {}", invalid_, what));
    return THERMOCLINE_INVALID;
}

struct PolicyServices {
    /// Opens the gate to the session, if it is still open.
    template <typename Do>
    static int in(Context* context, Do&& action) {
        if (context == nullptr) return THERMOCLINE_INVALID;
        auto& session = static_cast<PolicySession&>(*context);
        const std::lock_guard gate(session.gate_);
        if (session.off() || !session.view_) return THERMOCLINE_OFF;
        return action(session);
    }

    static bool inRange(std::uint64_t first, std::uint64_t count, std::uint64_t end) {
        return first < end && count <= end - first;
    }
    static bool inRange(PolicySession& session, thermocline_block_range range) {
        return inRange(range.first, range.count, session.requests_.blocks());
    }
    static std::string text(thermocline_block_range range) {
        return fmt::format("{} blocks from {} on", range.count, range.first);
    }

    template <PolicyRequests::List list>
    static int replace(Context* context, const thermocline_block_range* ranges, std::size_t count) {
        return in(context, [&](PolicySession& session) -> int {
            if (count > THERMOCLINE_POLICY_MOST_RANGES || (ranges == nullptr && count > 0))
                return session.invalid(fmt::format("a list of {} ranges", count));
            std::vector<PolicyRequests::Blocks> order;
            for (const auto& range : std::span(ranges, count)) {
                if (!inRange(session, range)) return session.invalid(text(range));
                order.push_back({range.first, range.count});
            }
            session.requests_.replace(list, std::move(order));
            if (list == PolicyRequests::List::bringBack) session.view_->wantsBack();
            return THERMOCLINE_OK;
        });
    }

    static int keep(Context* context, thermocline_block_range range, std::uint32_t milliseconds) {
        return in(context, [&](PolicySession& session) -> int {
            if (!inRange(session, range)) return session.invalid(text(range));
            session.requests_.keep({range.first, range.count}, std::chrono::milliseconds(milliseconds));
            return THERMOCLINE_OK;
        });
    }

    static int setTimer(Context* context, std::uint32_t number, std::uint32_t milliseconds) {
        return in(context, [&](PolicySession& session) -> int {
            constexpr std::uint32_t least = 10;
            if (number >= session.timers_.size() || (milliseconds != 0 && milliseconds < least))
                return session.invalid(fmt::format("timer {} every {} ms", number, milliseconds));
            const std::chrono::milliseconds every(milliseconds);
            session.timers_[number] = {every, PolicySession::Clock::now() + every};
            return THERMOCLINE_OK;
        });
    }

    static int queryBlocks(Context* context, thermocline_block_range range, thermocline_block_state* into) {
        return in(context, [&](PolicySession& session) -> int {
            if (!inRange(session, range) || into == nullptr) return session.invalid(text(range));
            if (!session.view_->managed()) return THERMOCLINE_UNAVAILABLE;
            for (auto block = range.first; block < range.first + range.count; ++block) {
                thermocline_block_state state{};
                for (auto page = firstPageOf(block); page < firstPageOf(block + 1); ++page) {
                    switch (stateOf(session, page)) {
                        case THERMOCLINE_PAGE_ABSENT:
                            ++state.absent;
                            break;
                        case THERMOCLINE_PAGE_RESIDENT:
                            ++state.resident;
                            break;
                        case THERMOCLINE_PAGE_STAGED:
                            ++state.staged;
                            break;
                        case THERMOCLINE_PAGE_COLD:
                            ++state.cold;
                            break;
                        case THERMOCLINE_PAGE_FROZEN:
                            ++state.frozen;
                            break;
                    }
                }
                into[block - range.first] = state;
            }
            return THERMOCLINE_OK;
        });
    }

    static int queryPages(Context* context, std::uint64_t first, std::uint64_t count, std::uint8_t* into) {
        return in(context, [&](PolicySession& session) -> int {
            if (!inRange(first, count, firstPageOf(session.requests_.blocks())) || into == nullptr)
                return session.invalid(fmt::format("{} pages from {} on", count, first));
            if (!session.view_->managed()) return THERMOCLINE_UNAVAILABLE;
            for (auto page = first; page < first + count; ++page)
                *into++ = static_cast<std::uint8_t>(stateOf(session, page));
            return THERMOCLINE_OK;
        });
    }

    static int read(Context* context, std::uint64_t page, std::uint32_t offset, std::uint32_t bytes,
                    void* into) {
        return in(context, [&](PolicySession& session) -> int {
            if (!inRange(page, 1, firstPageOf(session.requests_.blocks())) || into == nullptr ||
                !inRange(offset, bytes, pageBytes))
                return session.invalid(fmt::format("{} bytes of page {} at {}", bytes, page, offset));
            if (!session.view_->managed()) return THERMOCLINE_UNAVAILABLE;
            const std::span target(static_cast<std::byte*>(into), bytes);
            return session.view_->read(page, offset, target) ? THERMOCLINE_OK : THERMOCLINE_UNAVAILABLE;
        });
    }

    static int statistics(Context* context, thermocline_policy_statistics* into, std::size_t bytes) {
        return in(context, [&](PolicySession& session) -> int {
            if (into == nullptr) return session.invalid("statistics to nowhere");
            auto statistics = session.view_->statistics();
            statistics.blocks = session.requests_.blocks();
            statistics.blocks_advised = session.requests_.advised();
            statistics.events_dropped = session.faults_.dropped() + session.requests_.events().dropped();
            std::memcpy(into, &statistics, std::min(bytes, sizeof statistics));
            return THERMOCLINE_OK;
        });
    }

    static void log(Context* context, const char* line) {
        (void)in(context, [&](PolicySession& session) -> int {
            if (line == nullptr) return session.invalid("a line that is none");
            std::string text(line, ::strnlen(line, PolicySession::longestLine));
            std::replace_if(
                text.begin(), text.end(), [](char c) { return c >= 0 && c < ' '; }, ' ');
            const auto now = PolicySession::Clock::now();
            if (now - session.linesSince_ > std::chrono::minutes(1)) {
                session.linesSince_ = now;
                session.lines_ = 0;
            }
            if (++session.lines_ <= PolicySession::mostLines)
                spdlog::info("policy \"{}\": {}", session.name(), text);
            const std::lock_guard lock(session.mutex_);
            session.lastLine_ = std::move(text);
            session.lastLineCall_ = session.calls();
            return THERMOCLINE_OK;
        });
    }

    static thermocline_page_state stateOf(const PolicySession& session, PageNumber page) {
        switch (session.view_->pages.peek(page).state()) {
            case PageState::absent:
                return THERMOCLINE_PAGE_ABSENT;
            case PageState::resident:
                return THERMOCLINE_PAGE_RESIDENT;
            case PageState::staged:
                return THERMOCLINE_PAGE_STAGED;
            case PageState::frozen:
                return THERMOCLINE_PAGE_FROZEN;
            case PageState::cold:
            case PageState::filled:
                break;
        }
        return THERMOCLINE_PAGE_COLD;
    }
};

const thermocline_policy_services policyServices{
    .abi = THERMOCLINE_POLICY_ABI,
    .size = sizeof(thermocline_policy_services),
    .stage = PolicyServices::replace<PolicyRequests::List::stage>,
    .evict = PolicyServices::replace<PolicyRequests::List::evict>,
    .bring_back = PolicyServices::replace<PolicyRequests::List::bringBack>,
    .keep = PolicyServices::keep,
    .set_timer = PolicyServices::setTimer,
    .query_blocks = PolicyServices::queryBlocks,
    .query_pages = PolicyServices::queryPages,
    .read = PolicyServices::read,
    .statistics = PolicyServices::statistics,
    .log = PolicyServices::log,
};

}  // namespace thermocline::memory
