# SPDX-License-Identifier: Apache-2.0
# Warnings, sanitizers and hardening that every C and C++ target of ours links in.
add_library(thermocline_options INTERFACE)
target_compile_options(thermocline_options INTERFACE
    -Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wno-sign-conversion -fstack-protector-strong
    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor> $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>)
target_compile_definitions(thermocline_options INTERFACE
    SPDLOG_FMT_EXTERNAL=1 THERMOCLINE_VERSION="${PROJECT_VERSION}")
target_include_directories(thermocline_options INTERFACE ${PROJECT_SOURCE_DIR})
if(THERMOCLINE_SANITIZE)
    target_compile_options(thermocline_options INTERFACE -fsanitize=${THERMOCLINE_SANITIZE} -fno-omit-frame-pointer
        $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
    target_link_options(thermocline_options INTERFACE -fsanitize=${THERMOCLINE_SANITIZE})
endif()
