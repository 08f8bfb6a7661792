// SPDX-License-Identifier: Apache-2.0
#ifndef THERMOCLINE_POLICY_HPP
#define THERMOCLINE_POLICY_HPP

// A policy in C++20: derive from Policy, name the class in THERMOCLINE_EXPORT_POLICY, build a shared object.
// Header only; what it means is in thermocline_policy.h. An exception that leaves a policy is logged and
// switches it off, nothing else. Threads: as there.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "thermocline_policy.h"

namespace thermocline::policy {

using PageNumber = std::uint64_t;
using BlockNumber = std::uint64_t;
using Blocks = thermocline_block_range;
using BlockState = thermocline_block_state;
using Statistics = thermocline_policy_statistics;
using Options = std::map<std::string, std::string>;

inline constexpr std::uint64_t pagesPerBlock = THERMOCLINE_POLICY_BLOCK_PAGES;
constexpr BlockNumber blockOf(PageNumber page) {
    return page / pagesPerBlock;
}

enum class PageState : std::uint8_t { absent, resident, staged, cold, frozen };

/// What a policy may ask. Requests are true where they were accepted, which is not yet carried out. Cheap to
/// copy.
class Context {
  public:
    Context(const thermocline_policy_services& services, thermocline_policy_context& context)
        : services_(&services), context_(&context) {}

    /// Take these next, in this order; replaces the former list.
    bool stage(std::span<const Blocks> order) const { return list(services_->stage, order); }
    /// ... straight to the store.
    bool evict(std::span<const Blocks> order) const { return list(services_->evict, order); }
    bool bringBack(std::span<const Blocks> order) const { return list(services_->bring_back, order); }
    bool keep(Blocks blocks, std::chrono::milliseconds time) const {
        return services_->keep(context_, blocks, static_cast<std::uint32_t>(time.count())) == THERMOCLINE_OK;
    }
    /// 10 ms at least; zero = no more.
    bool setTimer(std::uint32_t timer, std::chrono::milliseconds every) const {
        return services_->set_timer(context_, timer, static_cast<std::uint32_t>(every.count())) ==
               THERMOCLINE_OK;
    }
    /// Nothing where the VM's memory is not managed now.
    [[nodiscard]] std::optional<std::vector<BlockState>> states(Blocks blocks) const {
        std::vector<BlockState> states(blocks.count);
        if (services_->query_blocks(context_, blocks, states.data()) != THERMOCLINE_OK) return std::nullopt;
        return states;
    }
    [[nodiscard]] std::optional<PageState> state(PageNumber page) const {
        std::uint8_t state = 0;
        if (services_->query_pages(context_, page, 1, &state) != THERMOCLINE_OK) return std::nullopt;
        return static_cast<PageState>(state);
    }
    /// False where the page is not in guest RAM.
    bool read(PageNumber page, std::uint32_t offset, std::span<std::byte> into) const {
        return services_->read(context_, page, offset, static_cast<std::uint32_t>(into.size()),
                               into.data()) == THERMOCLINE_OK;
    }
    [[nodiscard]] Statistics statistics() const {
        Statistics statistics{};
        (void)services_->statistics(context_, &statistics, sizeof statistics);
        return statistics;
    }
    void log(const std::string& text) const { services_->log(context_, text.c_str()); }

  private:
    bool list(int (*service)(thermocline_policy_context*, const Blocks*, std::size_t),
              std::span<const Blocks> order) const {
        return service(context_, order.data(), order.size()) == THERMOCLINE_OK;
    }

    const thermocline_policy_services* services_;
    thermocline_policy_context* context_;
};

/// One per VM. The constructor takes (Context, const Options&) and throws where the options are wrong.
class Policy {
  public:
    virtual ~Policy() = default;
    /// The guest waited for `page`; `before`: cold, frozen or absent.
    virtual void fault(PageNumber page, PageState before) { (void)page, (void)before; }
    /// The guest touched a page that was staged: it is in use.
    virtual void touched(PageNumber page) { (void)page; }
    /// Pages of `block` went to the store.
    virtual void goneCold(BlockNumber block) { (void)block; }
    virtual void limitChanged(std::uint64_t limitBytes, double proactiveStall) {
        (void)limitBytes, (void)proactiveStall;
    }
    virtual void tick(std::uint32_t timer) { (void)timer; }
};

namespace detail {

/// No exception crosses the C interface.
template <typename Do>
int guarded(const Context* context, Do&& action) {
    try {
        action();
        return 0;
    } catch (const std::exception& error) {
        if (context != nullptr) context->log(std::string("exception: ") + error.what());
    } catch (...) {
        if (context != nullptr) context->log("unknown exception");
    }
    return 1;
}

struct Instance {
    Context context;
    std::unique_ptr<Policy> policy;
};

template <typename Do>
int with(void* self, Do&& action) {
    auto& instance = *static_cast<Instance*>(self);
    return guarded(&instance.context, [&] { action(*instance.policy); });
}

template <typename Class>
int create(const thermocline_policy_services* services, thermocline_policy_context* context,
           const thermocline_policy_option* options, std::size_t count, void** self) {
    const Context given(*services, *context);
    return guarded(&given, [&] {
        Options map;
        for (std::size_t i = 0; i < count; ++i)
            map[options[i].key] = options[i].value;
        *self = new Instance{given, std::make_unique<Class>(given, map)};
    });
}

template <typename Class>
constexpr thermocline_policy entry(const char* name) {
    return {
        .abi = THERMOCLINE_POLICY_ABI,
        .size = sizeof(thermocline_policy),
        .name = name,
        .create = create<Class>,
        .destroy = [](void* self) { (void)guarded(nullptr, [&] { delete static_cast<Instance*>(self); }); },
        .fault =
            [](void* self, std::uint64_t page, std::uint32_t before) {
                return with(self, [&](Policy& p) { p.fault(page, static_cast<PageState>(before)); });
            },
        .touched = [](void* self,
                      std::uint64_t page) { return with(self, [&](Policy& p) { p.touched(page); }); },
        .gone_cold = [](void* self,
                        std::uint64_t block) { return with(self, [&](Policy& p) { p.goneCold(block); }); },
        .limit_changed =
            [](void* self, std::uint64_t limit, double stall) {
                return with(self, [&](Policy& p) { p.limitChanged(limit, stall); });
            },
        .tick = [](void* self, std::uint32_t timer) { return with(self, [&](Policy& p) { p.tick(timer); }); },
    };
}

}  // namespace detail
}  // namespace thermocline::policy

/// Once per shared object, at namespace scope.
#define THERMOCLINE_EXPORT_POLICY(Class, name)                               \
    extern "C" constinit const thermocline_policy thermocline_policy_entry = \
        ::thermocline::policy::detail::entry<Class>(name)

#endif
