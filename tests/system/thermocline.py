# SPDX-License-Identifier: Apache-2.0
"""One thermoclined with all that a test needs to speak to it."""

import contextlib

from testbed.errors import TestbedError
from testbed.processes import OwnedProcess
from testbed.thermocline_client import ThermoclineError
from testbed.thermocline_daemon import ThermoclineDaemon
from testbed.thermoctl import Thermoctl

_counter = iter(range(1, 1_000_000))


class Thermocline:
    """Context manager: a bus, a daemon with fresh directories, a client, thermoctl. `say` gets the end of the daemon's
    log: pytest shows what is printed where the test fails."""

    def __init__(self, testbed, start=True, say=print):
        self._say = say
        self._testbed = testbed
        self._start = start
        self._name = f"daemon-{next(_counter)}"
        self.client = None

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.bus = stack.enter_context(self._testbed.private_bus(f"bus-of-{self._name}"))
            self.daemon = ThermoclineDaemon(self.bus.address, self._testbed.run_dir / self._name)
            self.ctl = Thermoctl(self.bus.address)
            stack.callback(self.daemon.close)
            if self._start:
                self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        with self._stack:  # whatever goes wrong on the way, bus and daemon end
            self._stack.callback(self._close_client)
            self._say(self.daemon.log_tail(60))
            self._detach_all()

    def start(self, wait_for_libvirt=True):
        self._close_client()
        self.client = self.daemon.start()
        if wait_for_libvirt:
            self.client.wait_for_manager_property("HypervisorState", "connected")

    def domain(self, guest):
        """The guest's D-Bus object; REQUIRES: libvirt knows the domain."""
        return self.client.wait_for_domain(guest.uuid)

    def attached(self, guest, limit=0):
        """Attaches, and where a limit is given waits until it is met; returns the D-Bus object."""
        domain = self.domain(guest)
        domain.attach()
        if limit:
            domain.set_limit(limit)
            domain.wait_for_limit()
        return domain

    def kill_manager(self, pid):
        """REQUIRES: pid is of daemon.managers()."""
        OwnedProcess(pid, "thermocline-manager").kill()

    def domain_directory(self, guest):
        return self.daemon.runtime_dir / "domain" / guest.uuid

    def _close_client(self):
        if self.client is not None:
            self.client.close()
        self.client = None

    def _detach_all(self):
        """A guest that is the module's must go back as it was."""
        if self.client is None or self.daemon.process is None or not self.daemon.managers():
            return
        for path in self.client.manager("ListDomains")[0]:
            domain = self.client.domain(path.rsplit("/", 1)[1])
            with contextlib.suppress(ThermoclineError, TestbedError):
                if domain.figures()["State"] != "detached":
                    domain.detach()
