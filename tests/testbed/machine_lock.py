# SPDX-License-Identifier: Apache-2.0
"""One run at a time with this machine's libvirtd: ./test takes the same lock, and the run that started libvirtd ends it."""

import contextlib
import fcntl

_PATH = "/run/lock/thermocline-test.lock"


@contextlib.contextmanager
def machine_lock(waiting=lambda: None):
    """Held while the context lasts; waiting() is called first where another run has it."""
    with open(_PATH, "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
