# SPDX-License-Identifier: Apache-2.0
"""A thermoclined of our own: on a private bus, with a state and a run-time directory of its own."""

import os
import subprocess
from pathlib import Path

from .deadline import Deadline, wait_until
from .errors import TestbedError
from .host_services import CONNECT_URI
from .paths import binary
from .processes import OwnedProcess
from .thermocline_client import BUS_NAME, Client, iterate

from gi.repository import Gio


class ThermoclineDaemon:
    """start() and end() may alternate; the directories stay. Not thread-safe."""

    def __init__(self, bus_address, directory, connect_uri=CONNECT_URI, manager=None):
        self.bus_address = bus_address
        self.state_dir = directory / "state"
        self.runtime_dir = directory / "run"
        self.config_dir = directory / "conf.d"  # not there: no rules for new domains, whatever the host has
        self.log_path = directory / "thermoclined.log"
        self.connect_uri = connect_uri
        self.manager = manager or binary("thermocline-manager")
        self.program = binary("thermoclined")
        self.directory = directory
        self.options = []  # more of thermoclined's
        self.prefix = []  # of its command line: a program that changes its surroundings and executes the rest
        self.process = None
        directory.mkdir(exist_ok=True)

    def command(self):
        return [*self.prefix, str(self.program), "--bus", self.bus_address, "--connect", self.connect_uri,
                "--state-dir", str(self.state_dir), "--runtime-dir", str(self.runtime_dir),
                "--config-dir", str(self.config_dir), "--manager", str(self.manager), "--log-level", "debug", *self.options]

    def launch(self):
        """Starts the process and does not wait."""
        with open(self.log_path, "ab") as log:
            child = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     start_new_session=True)
        self.process = OwnedProcess(child.pid, "thermoclined", child)

    def start(self, seconds=30.0):
        """Returns a client once the daemon owns its name on the bus."""
        client = Client(self.bus_address)
        # The bus notices a moment later that the last one was killed.
        wait_until("the name on the bus is free", lambda: not client.has_owner())
        owners = []
        # One queue for both: the answer to the watch's first question and later changes.
        watch = Gio.bus_watch_name_on_connection(
            client.connection, BUS_NAME, Gio.BusNameWatcherFlags.NONE,
            lambda _connection, _name, owner: owners.append(owner), None)
        self.launch()
        deadline = Deadline(seconds)
        try:
            while not owners:
                if not self.process.running or deadline.over:
                    raise TestbedError(f"thermoclined does not start; it says:\n{self.log_tail()}")
                iterate(Deadline(min(0.1, deadline.remaining)))
        finally:
            Gio.bus_unwatch_name(watch)
        return client

    def run_to_end(self, seconds=30.0):
        """For a daemon that must refuse to start: (exit code, what it said)."""
        result = subprocess.run(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False)
        return result.returncode, result.stdout

    def end(self):
        if self.process is not None:
            self.process.end()
            self.process = None

    def kill(self):
        self.process.kill()
        self.process = None

    def log_tail(self, lines=30):
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError as error:
            return str(error)

    def managers(self):
        """Pids of the manager processes of this daemon (they outlive it)."""
        found = []
        needle = os.fsencode(str(self.runtime_dir))
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # ended meanwhile
            if arguments[0].endswith(b"thermocline-manager") and any(needle in part for part in arguments):
                found.append(int(entry.name))
        return sorted(found)

    def close(self):
        """Ends the daemon, then requires that no manager is left: REQUIRES the guests to be gone by then."""
        self.end()
        try:
            wait_until("managers end with their VMs", lambda: not self.managers(), 10.0)
        except TestbedError:
            left = self.managers()
            for pid in left:
                OwnedProcess(pid, "thermocline-manager").end()
            raise TestbedError(f"managers outlived their VMs: {left}\n{self.log_tail()}")
