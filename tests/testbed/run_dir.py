# SPDX-License-Identifier: Apache-2.0
"""A directory for one run: sockets, logs, state. On tmpfs, as the cold store must be, with a short path, because a socket's
may not exceed 107 bytes, and open to libvirt's QEMU user, which a home directory often is not."""

import contextlib
import shutil
import tempfile
from pathlib import Path


@contextlib.contextmanager
def run_directory():
    path = Path(tempfile.mkdtemp(prefix="thermocline-", dir="/dev/shm"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)
