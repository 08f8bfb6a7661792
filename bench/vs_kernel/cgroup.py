# SPDX-License-Identifier: Apache-2.0
"""A memory cgroup (v1) of our own: what is in it is counted by the kernel, and may be limited."""

import contextlib
import os
import signal
from pathlib import Path

from testbed.deadline import wait_until
from testbed.errors import TestbedError

from .host_file import read_text, write_text

_ROOT = Path("/sys/fs/cgroup/memory")
_PREFIX = "thermocline-bench-"
_UNLIMITED = -1
_ATTEMPTS = 50


class MemoryCgroup:
    """Context manager. What is still in it at its end is killed: nobody else's processes are."""

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
            for pid in read_text(self._path / "cgroup.procs").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                self._path.rmdir()
            except OSError:
                return False  # the last of its processes is still ending
            return True
        wait_until(f"{self._path} is empty", removed, 20.0)

    def enter(self):
        """Moves the calling process into it; for subprocess's preexec_fn."""
        self.add(os.getpid())

    def add(self, pid):
        """What that process touched before stays charged to where it was."""
        write_text(self._path / "cgroup.procs", str(pid))

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

    @property
    def statistics(self):
        """The file whose reading brings the kernel's own view of the cgroup up to date."""
        return self._path / "memory.stat"

    def limit(self, wanted):
        """Reclaims as far as the kernel can at once; raises where it cannot."""
        for _ in range(_ATTEMPTS):
            read_text(self.statistics)  # see fresh_statistics.py
            try:
                return write_text(self._path / "memory.limit_in_bytes", str(wanted))
            except OSError as error:
                problem = error
        raise TestbedError(f"the kernel refuses the limit of {wanted} bytes, at {self.used} in use: {problem.strerror}")
