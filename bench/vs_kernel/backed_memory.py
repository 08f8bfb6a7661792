# SPDX-License-Identifier: Apache-2.0
"""A virtual machine may hand memory that is free back to its host (free page reporting), and who takes it next waits until the
host has found some again: milliseconds for each huge page, where the guest's kernel needs a tenth of one to zero it. That is
the speed of another machine, and which side meets it is luck. So what becomes free stays here for a while, where the kernel can be
told so, and some is there from the start."""

import contextlib
import mmap
from pathlib import Path

from .host_file import changed

_MIN_FREE = Path("/sys/module/page_reporting/parameters/min_free_ms")  # not every kernel has it
_KEPT_MS = "60000"
_BYTES = 1 << 30  # more than any two subjects take


@contextlib.contextmanager
def backed_memory(min_free=_MIN_FREE, size=_BYTES):
    """While it lasts, memory is not given back before it was free for a minute. Does nothing where the kernel has no such
    setting."""
    if not min_free.exists():
        yield
        return
    with changed(min_free, _KEPT_MS):
        _touch(size)
        yield


def _touch(size):
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1
