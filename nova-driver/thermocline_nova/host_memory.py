# SPDX-License-Identifier: Apache-2.0
"""The host's memory as the kernel sees it."""

_MEMINFO = "/proc/meminfo"


def available_mb(path=_MEMINFO):
    """MemAvailable in MiB. OSError or ValueError where the kernel does not say, which Linux does since 3.14."""
    with open(path, encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
    raise ValueError(f"{path} has no MemAvailable")
