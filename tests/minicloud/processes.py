# SPDX-License-Identifier: Apache-2.0
"""The cloud's processes. They outlive the command that starts them, so each is known by its pid and the time of its start,
which no other process ever has together."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from testbed.deadline import Deadline
from testbed.processes import OwnedProcess

from .errors import CloudError


def _start_time(pid):
    """In clock ticks since the machine's start; None where it has ended (also as a zombie that nobody reaps)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


class Processes:
    """Of one cloud. Not thread-safe."""

    def __init__(self, state):
        self._state = state

    def _file(self, name):
        return self._state.run / f"{name}.json"

    def log(self, name):
        """Where its standard output goes."""
        return self._state.log / f"{name}.out"

    def names(self):
        """Of all that were started and not ended, alive or not."""
        return sorted(file.stem for file in self._state.run.glob("*.json"))

    def pid(self, name):
        """None where it does not run."""
        try:
            known = json.loads(self._file(name).read_text())
        except FileNotFoundError:
            return None
        started = _start_time(known["pid"])
        return known["pid"] if started is not None and started == known["start"] else None

    def start(self, name, command, environment, user=None):
        """Starts it in a session of its own, unless it runs already."""
        if self.pid(name):
            return
        with open(self.log(name), "ab") as log:
            child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     start_new_session=True, user=user, group=user,
                                     extra_groups=[] if user else None, cwd="/")
        self._file(name).write_text(json.dumps({"pid": child.pid, "start": _start_time(child.pid)}))

    def signal(self, name, number):
        """To it and what it started in its session's first group. CloudError where it does not run."""
        pid = self.pid(name)
        if pid is None:
            raise CloudError(f"{name} does not run")
        os.killpg(pid, number)

    def ask_to_end(self, names):
        """Sends SIGTERM to each, so that they end side by side; stop() has to follow."""
        for name in names:
            pid = self.pid(name)
            if pid is not None:
                os.kill(pid, signal.SIGTERM)

    def stop(self, name, grace=20.0):
        """Ends it and what it left in its process group. Does nothing where it does not run."""
        pid = self.pid(name)
        if pid is not None:
            try:
                OwnedProcess(pid, name).end(grace)
            except ProcessLookupError:
                pass  # ended meanwhile
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._file(name).unlink(missing_ok=True)

    def wait_for(self, name, what, condition, seconds):
        """Looks until condition() holds: none of these programs tells when it is ready. Fails at once where it has ended."""
        deadline = Deadline(seconds)
        while not condition():
            if self.pid(name) is None:
                raise CloudError(f"{name} ended while it started: {self.tail(name)}")
            if deadline.over:
                raise CloudError(f"{name}: {what} did not happen within {seconds:.0f} s: {self.tail(name)}")
            time.sleep(0.05)

    def tail(self, name, lines=12):
        """The ends of what it said and, where it keeps one, of its log; and where they are."""
        files = [file for file in (self.log(name), self._state.log / f"{name}.log") if file.exists()]
        return "\n".join(f"{file} ends with\n" + "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) for file in files)
