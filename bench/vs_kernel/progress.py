# SPDX-License-Identifier: Apache-2.0
"""Where the run is: one line that is drawn again in place on a terminal; elsewhere a plain line per finished measurement."""

import time


class Progress:
    def __init__(self, terminal, measurements):
        self._terminal = terminal
        self._all = measurements
        self._done = 0
        self._began = time.monotonic()
        self._what = ""

    def begin(self, what):
        self._what = what
        self.step("setting up")

    def step(self, step):
        if self._terminal.live:
            self._terminal.block([f"{self._head()} {self._what}: {step} ({self._left()})"])

    def note(self, what):
        """About what belongs to no measurement."""
        self._terminal.say(f"{self._head()} {what}")

    def finish(self, result):
        self._done += 1
        line = f"{self._head()} {self._what}: {result}"
        if self._terminal.live:
            self._terminal.block([line])
            self._terminal.keep_block()
        else:
            self._terminal.say(line)

    def _head(self):
        passed = time.monotonic() - self._began
        return f"[{self._done:>3}/{self._all}] {passed:5.0f} s "

    def _left(self):
        if not self._done:
            return "counting"
        left = (time.monotonic() - self._began) / self._done * (self._all - self._done)
        return f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left"
