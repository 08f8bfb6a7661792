# SPDX-License-Identifier: Apache-2.0
"""One run at a time with this machine's libvirtd: ./test takes the same lock, and the run that started libvirtd ends it."""

import contextlib
import fcntl
import os

_PATH = "/run/lock/thermocline-test.lock"


def _open():
    # Without O_CREAT first: in a directory that everyone may write to, the kernel refuses it for another user's file.
    try:
        return os.open(_PATH, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(_PATH, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)


@contextlib.contextmanager
def machine_lock(waiting=lambda: None):
    """Held while the context lasts; waiting() is called first where another run has it."""
    lock = _open()
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = False
        if not held:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
