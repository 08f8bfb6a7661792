# SPDX-License-Identifier: Apache-2.0
"""What the demo says: steps, a block of lines that updates in place, colours. On anything but a terminal: plain lines."""

import os
import sys


class Terminal:
    def __init__(self, stream=sys.stdout):
        self._stream = stream
        self.live = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colours = self.live and "NO_COLOR" not in os.environ
        self._block_lines = 0

    def paint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self._colours else text

    def bold(self, text):
        return self.paint("1", text)

    def good(self, text):
        return self.paint("32", text)

    def bad(self, text):
        return self.paint("31", text)

    def dim(self, text):
        return self.paint("2", text)

    def say(self, text=""):
        self.keep_block()
        print(text, file=self._stream, flush=True)

    def step(self, text):
        self.say(f"{self.bold('==>')} {text}")

    def block(self, lines):
        """Draws lines over those of the last call."""
        up = f"\033[{self._block_lines}A" if self._block_lines else ""
        self._stream.write(up + "".join(f"\r\033[K{line}\n" for line in lines))
        self._stream.flush()
        self._block_lines = len(lines)

    def keep_block(self):
        """What was drawn stays; the next block begins below it."""
        self._block_lines = 0
