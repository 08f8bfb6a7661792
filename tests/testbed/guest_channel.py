# SPDX-License-Identifier: Apache-2.0
"""Talks to guestmem in a guest: one line out, one JSON object back. See tests/guest/README.md for the commands."""

import json
import socket

from .deadline import Deadline
from .errors import TestbedError


class GuestError(TestbedError):
    """The guest answered {"ok": false}; `answer` is the whole of it."""

    def __init__(self, command, answer):
        super().__init__(f"guest: {command}: {json.dumps(answer)}")
        self.answer = answer


class GuestChannel:
    """Not thread-safe."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._pending = b""

    def close(self):
        self._socket.close()

    def fileno(self):
        return self._socket.fileno()

    def receive(self, seconds, what="a line"):
        deadline = Deadline(seconds)
        while b"\n" not in self._pending:
            if deadline.over:
                raise TestbedError(f"guest: no answer within {seconds:.0f} s: {what}")
            self._socket.settimeout(deadline.remaining or 0.001)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise TestbedError(f"guest: its process ended: {what}")
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        return json.loads(line)

    def wait_for_event(self, name, seconds):
        """Returns the next event of that name; answers that a reboot made meaningless are dropped."""
        deadline = Deadline(seconds)
        while True:
            message = self.receive(deadline.remaining, f"event {name}")
            if message.get("event") == name:
                return message

    def send(self, command):
        """Sends without waiting for the answer; receive_answer() has to follow."""
        self._socket.settimeout(10)
        self._socket.sendall(command.encode() + b"\n")

    def receive_answer(self, command="", seconds=120.0):
        answer = self.receive(seconds, command)
        if answer.get("event") == "ready":  # it panicked: out of memory, or worse
            raise TestbedError(f"the guest started over by itself: {command}")
        if not answer.get("ok"):
            raise GuestError(command, answer)
        return answer

    def request(self, command, seconds=120.0):
        self.send(command)
        return self.receive_answer(command, seconds)
