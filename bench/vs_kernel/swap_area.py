# SPDX-License-Identifier: Apache-2.0
"""Swap on a device or a file, for as long as a context lasts."""

import contextlib
import subprocess

from testbed.errors import TestbedError

# Above any swap that the host has of its own: pages of the measured cgroup go here, and nowhere else.
_PRIORITY = 32767


def _run(*command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True,
                            check=False)
    if result.returncode:
        raise TestbedError(f"{' '.join(map(str, command))}: {result.stderr.strip()}")


@contextlib.contextmanager
def swap_on(path):
    _run("mkswap", path)
    _run("swapon", "--priority", str(_PRIORITY), path)
    try:
        yield
    finally:
        _run("swapoff", path)
