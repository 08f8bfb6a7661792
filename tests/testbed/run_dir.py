# SPDX-License-Identifier: Apache-2.0
"""A directory for one run: sockets, logs, state. On tmpfs, as the cold store must be, with a short path, because a socket's
may not exceed 107 bytes, and open to libvirt's QEMU user, which a home directory often is not; or on the disk, with the
same properties otherwise. A lock in it is held as long
as the run lives, so that what a killed run left behind is known as such."""

import contextlib
import fcntl
import shutil
import tempfile
from pathlib import Path

_IN_MEMORY = Path("/dev/shm")
_ON_DISK = Path("/var/tmp")
_PREFIX = "thermocline-run-"
_LOCK = "lock"


@contextlib.contextmanager
def run_directory(on_disk=False):
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_ON_DISK if on_disk else _IN_MEMORY))
    path.chmod(0o711)
    try:
        with open(path / _LOCK, "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path
    finally:
        shutil.rmtree(path)


def abandoned_run_directories():
    """Those whose run is dead."""
    found = []
    for path in (*_IN_MEMORY.glob(f"{_PREFIX}*"), *_ON_DISK.glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError), open(path / _LOCK, encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.append(path)
    return found
