# SPDX-License-Identifier: Apache-2.0
"""The kernel's own ways to hold more than memory: each a context manager that sets it up and puts everything back. While it
lasts, pool_bytes() tells the host memory that it takes for what is swapped out, which no cgroup (v1) is charged for."""

import contextlib
import os
import tempfile
from pathlib import Path

from testbed.errors import TestbedError

from .host_file import changed, meminfo_bytes, read_text, write_text
from .swap_area import swap_on

SWAP_DIRECTORY = Path("/var/tmp")  # on a disk
_ZRAM_CONTROL = Path("/sys/class/zram-control")
_ZSWAP = Path("/sys/module/zswap/parameters")
# Room for every page of the working set, and for clusters that are only partly used.
_SWAP_FACTOR = 1.5


class Rival:
    name = ""

    def __init__(self, working_set):
        self._bytes = int(working_set * _SWAP_FACTOR)
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._set_up(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        return self._stack.__exit__(*exception)

    def pool_bytes(self):
        return 0

    def _set_up(self, stack):
        raise NotImplementedError


@contextlib.contextmanager
def _zswap(enabled):
    """Does nothing on a kernel without zswap, where it is not wanted."""
    switch = _ZSWAP / "enabled"
    if not switch.exists():
        if enabled:
            raise TestbedError("this kernel has no zswap")
        yield
        return
    with changed(switch, "Y" if enabled else "N"):
        yield


@contextlib.contextmanager
def _swap_file(size):
    handle, path = tempfile.mkstemp(prefix="thermocline-bench-", suffix=".swap", dir=SWAP_DIRECTORY)
    try:
        with open(handle, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        yield path
    finally:
        os.unlink(path)


class ZramLz4(Rival):
    """A zram device of our own, compressed with lz4."""

    name = "zram-lz4"

    def _set_up(self, stack):
        if not (_ZRAM_CONTROL / "hot_add").exists():
            raise TestbedError("this kernel cannot make a zram device")
        stack.enter_context(_zswap(False))
        number = read_text(_ZRAM_CONTROL / "hot_add")
        stack.callback(write_text, _ZRAM_CONTROL / "hot_remove", number)
        self._block = Path(f"/sys/block/zram{number}")
        stack.callback(write_text, self._block / "reset", "1")
        write_text(self._block / "comp_algorithm", "lz4")
        write_text(self._block / "disksize", str(self._bytes))
        stack.enter_context(swap_on(f"/dev/zram{number}"))

    def pool_bytes(self):
        return int(read_text(self._block / "mm_stat").split()[2])


class Zswap(Rival):
    """zswap with this kernel's compressor, in front of a swap file."""

    name = "zswap"

    def _set_up(self, stack):
        stack.enter_context(_zswap(True))
        path = stack.enter_context(_swap_file(self._bytes))
        stack.enter_context(swap_on(path))
        self._before = meminfo_bytes("Zswap")

    def pool_bytes(self):
        return max(0, meminfo_bytes("Zswap") - self._before)


class SwapFile(Rival):
    """A swap file on disk; takes no memory."""

    name = "swap-file"

    def _set_up(self, stack):
        stack.enter_context(_zswap(False))
        path = stack.enter_context(_swap_file(self._bytes))
        stack.enter_context(swap_on(path))


RIVALS = {rival.name: rival for rival in (ZramLz4, Zswap, SwapFile)}
