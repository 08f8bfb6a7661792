# SPDX-License-Identifier: Apache-2.0
"""A process that the testbed started: known by a pidfd, so it can neither be mixed up nor outlive us unseen."""

import os
import select
import signal

from .errors import TestbedError


class OwnedProcess:
    """Thread-safe: only system calls on one pidfd."""

    def __init__(self, pid, name, popen=None):
        self.pid = pid
        self.name = name
        self._popen = popen  # kept to reap it, where it is our child
        self._pidfd = os.pidfd_open(pid)

    def wait(self, seconds):
        """True once the process has ended."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        ended = bool(poll.poll(int(seconds * 1000)))
        if ended and self._popen is not None:
            self._popen.wait()
        return ended

    @property
    def running(self):
        return not self.wait(0)

    @property
    def exit_code(self):
        return None if self._popen is None else self._popen.poll()

    def signal(self, number):
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass

    def end(self, grace=15.0):
        """Asks it to end, and makes it after the grace time. Does nothing when it has ended already."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.wait(0):
                return
            self.signal(number)
            if self.wait(grace):
                return
        raise TestbedError(f"{self.name} (pid {self.pid}) does not end")

    def kill(self):
        self.signal(signal.SIGKILL)
        if not self.wait(15.0):
            raise TestbedError(f"{self.name} (pid {self.pid}) does not end after SIGKILL")
