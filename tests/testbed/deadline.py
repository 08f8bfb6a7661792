# SPDX-License-Identifier: Apache-2.0
"""Waiting with an end."""

import time

from .errors import TestbedError


class Deadline:
    """A moment after which waiting is given up."""

    def __init__(self, seconds):
        self._at = time.monotonic() + seconds

    @property
    def remaining(self):
        return max(0.0, self._at - time.monotonic())

    @property
    def over(self):
        return self.remaining == 0.0


def wait_until(what, condition, seconds=30.0):
    """Looks until condition() is true and returns what it returned.

    Only for state that nothing tells about (/proc, a file of another program); where there is an event, wait for it."""
    deadline = Deadline(seconds)
    while True:
        value = condition()
        if value:
            return value
        if deadline.over:
            raise TestbedError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.02)
