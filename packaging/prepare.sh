# SPDX-License-Identifier: Apache-2.0
# Sourced by ./demo and ./test: from a clone to binaries. REQUIRES: set -euo pipefail, $root is the checkout.

# Only Debian's own tools: a Python, CMake or compiler wrapper that a user put in front would change what is tested.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$root/tests

step() {
    if [[ -t 1 ]]; then printf '\e[1m==>\e[0m %s\n' "$*"; else printf '==> %s\n' "$*"; fi
}

# prepare_packages KIND...
prepare_packages() {
    local kind arguments=()
    for kind; do arguments+=(--kind "$kind"); done
    "$root/packaging/install-dependencies" "${arguments[@]}"
}

# prepare_build [TARGET]...: configures preset release once, then builds the targets (default: all of it); what the
# tools say is shown only when they fail.
prepare_build() {
    local directory=$root/build/release
    local log=$directory/build.log
    mkdir -p "$directory"
    if [[ ! -e $directory/build.ninja ]]; then
        step "configuring"
        quietly "$log" cmake -S "$root" --preset release
    fi
    if ninja -C "$directory" -n "$@" 2>/dev/null | grep -q 'no work to do'; then return 0; fi
    step "building (the first time takes a few minutes)"
    if [[ -t 1 ]]; then
        ninja -C "$directory" "$@"  # its progress line updates in place on a terminal
    else
        quietly "$log" ninja -C "$directory" "$@"
    fi
}

quietly() {
    local log=$1
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 60 "$log" >&2
        echo "failed: $* (everything it said: $log)" >&2
        return 1
    fi
}

# Virtual machines under libvirt need root; a user with sudo stays a user until here.
exec_as_root() {
    if ((EUID == 0)); then
        exec "$@"
    elif command -v sudo >/dev/null; then
        exec sudo --preserve-env=PYTHONPATH,PYTHONDONTWRITEBYTECODE,CI "$@"
    else
        echo "$0: needs root (it attaches to virtual machines), and there is no sudo" >&2
        return 1
    fi
}
