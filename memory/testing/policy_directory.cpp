// SPDX-License-Identifier: Apache-2.0
#include "memory/testing/policy_directory.h"

#include <cstdlib>
#include <stdexcept>

/// A policy that failed is called no more, not even to free what it has: that is its own leak, not ours.
// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming): the sanitizer asks for it
extern "C" const char* __lsan_default_suppressions() {
    return "leak:scripted.so";
}

namespace thermocline::memory::testing {

using std::filesystem::perms;

PolicyDirectory::PolicyDirectory() {
    char name[] = "/tmp/thermocline-policies-XXXXXX";
    if (::mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
    constexpr auto root =
        perms::owner_all | perms::group_read | perms::group_exec | perms::others_read | perms::others_exec;
    std::filesystem::permissions(path_, root);
    for (const char* built : {THERMOCLINE_POLICIES, THERMOCLINE_TEST_POLICIES})
        for (const auto& entry : std::filesystem::directory_iterator(built)) {
            const auto copy = path_ / entry.path().filename();
            std::filesystem::copy_file(entry.path(), copy);
            std::filesystem::permissions(copy, root);
        }
}

PolicyDirectory::~PolicyDirectory() {
    std::filesystem::remove_all(path_);
}

}  // namespace thermocline::memory::testing
