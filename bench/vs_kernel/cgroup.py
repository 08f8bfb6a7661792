# SPDX-License-Identifier: Apache-2.0
"""A memory cgroup (v1) of our own: what is in it is counted by the kernel, and may be limited."""

import os
from pathlib import Path

from testbed.deadline import wait_until
from testbed.errors import TestbedError

from .host_file import read_text, write_text

_ROOT = Path("/sys/fs/cgroup/memory")
_PREFIX = "thermocline-bench-"
_UNLIMITED = -1
_STEPS = 16


class MemoryCgroup:
    """Context manager. Its processes must have ended before it does."""

    _made = 0

    def __init__(self):
        if not (_ROOT / "memory.limit_in_bytes").exists():
            raise TestbedError(f"{_ROOT} is not a cgroup v1 memory controller; the kernel's side needs one")
        MemoryCgroup._made += 1
        self._path = _ROOT / f"{_PREFIX}{os.getpid()}-{MemoryCgroup._made}"

    def __enter__(self):
        self._path.mkdir()
        # Only anonymous memory is in there: nothing but swap can make room.
        write_text(self._path / "memory.swappiness", "100")
        return self

    def __exit__(self, *exception):
        def removed():
            try:
                self._path.rmdir()
            except OSError:
                return False  # the last of its processes is still ending
            return True
        wait_until(f"{self._path} is empty", removed, 20.0)

    def enter(self):
        """Moves the calling process into it; for subprocess's preexec_fn."""
        write_text(self._path / "cgroup.procs", str(os.getpid()))

    @property
    def used(self):
        return int(read_text(self._path / "memory.usage_in_bytes"))

    @property
    def oom_kills(self):
        for line in read_text(self._path / "memory.oom_control").splitlines():
            name, value = line.split()
            if name == "oom_kill":
                return int(value)
        return 0

    def unlimit(self):
        write_text(self._path / "memory.limit_in_bytes", str(_UNLIMITED))

    def limit(self, wanted):
        """Reclaims as far as the kernel can at once. A limit far below what is in use is refused (EBUSY) when one attempt at
        reclaim finds too little, so it is approached in steps. Returns the limit that holds."""
        used = self.used
        reached = None
        for step in range(1, _STEPS + 1):
            target = wanted if used <= wanted or step == _STEPS else used - (used - wanted) * step // _STEPS
            if not self._try_limit(target):
                break
            reached = target
            if target == wanted:
                break
        if reached is None:
            raise TestbedError(f"the kernel refuses every limit from {used} down to {wanted} bytes")
        return reached

    def _try_limit(self, target, attempts=20):
        for _ in range(attempts):
            try:
                write_text(self._path / "memory.limit_in_bytes", str(target))
                return True
            except OSError:
                continue
        return False
