// SPDX-License-Identifier: Apache-2.0

// A policy for tests, written against the C interface alone: it does what its option `does` says, most of
// which no policy should. `pipe`, where it is needed: a descriptor of this process to wait on, or to write
// to.

#include <pthread.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "thermocline_policy.h"

namespace {

struct Scripted {
    const thermocline_policy_services* services;
    thermocline_policy_context* context;
    std::string does;
    std::string option(const char* name) const {
        for (std::size_t i = 0; i < keys.size(); ++i)
            if (keys[i] == name) return values[i];
        return {};
    }
    int pipe() const { return std::atoi(option("pipe").c_str()); }
    thermocline_block_range blocks() const {
        return {std::strtoull(option("first").c_str(), nullptr, 10),
                std::strtoull(option("count").c_str(), nullptr, 10)};
    }
    std::vector<std::string> keys;
    std::vector<std::string> values;
};

/// Returns when the test writes to the pipe, or never.
void waitOn(int pipe) {
    char byte = 0;
    (void)!::read(pipe, &byte, 1);
}

void tell(int pipe, int what) {
    const auto byte = static_cast<char>(what);
    (void)!::write(pipe, &byte, 1);
}

/// At once and at every tick: what is to go is known before anything goes.
void askForBlocks(const Scripted& policy) {
    const auto& ask = *policy.services;
    const auto blocks = policy.blocks();
    if (policy.does == "stage") ask.stage(policy.context, &blocks, 1);
    if (policy.does == "evict") ask.evict(policy.context, &blocks, 1);
    if (policy.does == "bring-back") ask.bring_back(policy.context, &blocks, 1);
    if (policy.does == "keep") ask.keep(policy.context, blocks, 60000);
}

int create(const thermocline_policy_services* services, thermocline_policy_context* context,
           const thermocline_policy_option* options, size_t count, void** self) {
    auto* policy = new Scripted{services, context, {}, {}, {}};
    for (size_t i = 0; i < count; ++i) {
        policy->keys.emplace_back(options[i].key);
        policy->values.emplace_back(options[i].value);
    }
    policy->does = policy->option("does");
    *self = policy;
    services->set_timer(context, 0, 10);
    if (policy->does == "error-in-create") {
        services->log(context, "cannot work here");
        return 7;
    }
    if (policy->does == "throw-in-create") throw std::runtime_error("no wish to work");
    if (policy->does == "block-in-create") waitOn(policy->pipe());
    askForBlocks(*policy);
    return 0;
}

void destroy(void* self) {
    const auto& policy = *static_cast<Scripted*>(self);
    if (policy.does == "block-in-destroy") waitOn(policy.pipe());
    if (policy.does == "tell-of-destroy") tell(policy.pipe(), 'd');
    delete &policy;
}

int tick(void* self, uint32_t) {
    const auto& policy = *static_cast<Scripted*>(self);
    const auto& ask = *policy.services;
    auto* const context = policy.context;
    if (policy.does == "throw-in-tick") throw std::runtime_error("no wish to work");
    if (policy.does == "throw-a-number-in-tick") throw 42;
    if (policy.does == "error-in-tick") return -1;
    if (policy.does == "end-thread-in-tick") ::pthread_exit(nullptr);
    if (policy.does == "block-in-tick") waitOn(policy.pipe());
    if (policy.does == "spin-in-tick")
        for (volatile bool spinning = true; spinning;) {
        }
    if (policy.does == "come-back-late") {
        waitOn(policy.pipe());
        const auto blocks = policy.blocks();
        std::vector<thermocline_block_state> states(blocks.count);
        const int answer = ask.query_blocks(context, blocks, states.data());
        tell(std::atoi(policy.option("answers").c_str()), -answer);
    }
    if (policy.does == "ask-nonsense") {
        const thermocline_block_range far{1ULL << 40, 1};
        const thermocline_block_range endless{1, UINT64_MAX};
        const thermocline_block_range fine{0, 1};
        thermocline_block_state state;
        uint8_t byte = 0;
        for (const int answer :
             {ask.stage(context, &far, 1), ask.evict(context, &endless, 1),
              ask.bring_back(context, nullptr, 3), ask.stage(context, &fine, 1U << 20),
              ask.keep(context, endless, 1000), ask.set_timer(context, 99, 100), ask.set_timer(context, 1, 1),
              ask.query_blocks(context, far, &state), ask.query_blocks(context, fine, nullptr),
              ask.query_pages(context, 0, UINT64_MAX, &byte), ask.read(context, 1ULL << 50, 0, 1, &byte),
              ask.read(context, 0, 4095, 2, &byte), ask.statistics(context, nullptr, 8),
              ask.stage(nullptr, &fine, 1)})
            if (answer != THERMOCLINE_INVALID && answer != THERMOCLINE_OFF) ::abort();
        ask.log(context, nullptr);
    }
    askForBlocks(policy);
    return 0;
}

int fault(void* self, uint64_t, uint32_t) {
    if (static_cast<Scripted*>(self)->does == "throw-in-fault") throw std::runtime_error("no wish to listen");
    return 0;
}

}  // namespace

extern "C" constinit const thermocline_policy thermocline_policy_entry{
    .abi = THERMOCLINE_POLICY_ABI,
    .size = sizeof(thermocline_policy),
    .name = "scripted",
    .create = create,
    .destroy = destroy,
    .fault = fault,
    .touched = nullptr,
    .gone_cold = nullptr,
    .limit_changed = nullptr,
    .tick = tick,
};
