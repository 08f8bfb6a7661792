# SPDX-License-Identifier: Apache-2.0
"""The host's memory as the kernel sees it."""

_MEMINFO = "/proc/meminfo"


def total_bytes():
    """MemTotal. OSError or ValueError where the kernel does not say."""
    return _read("MemTotal")


def available_mb():
    """MemAvailable in MiB. Likewise; Linux says it since 3.14."""
    return _read("MemAvailable") // (1 << 20)


def _read(name):
    with open(_MEMINFO, encoding="ascii") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    raise ValueError(f"{_MEMINFO} has no {name}")
