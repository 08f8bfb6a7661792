# SPDX-License-Identifier: Apache-2.0
"""A compute host of the cloud with a thermoclined beside its libvirtd."""

import contextlib
import subprocess

from minicloud.host import FIRST, enter
from minicloud.serial_console import SerialConsole
from testbed.bus import PrivateBus
from testbed.deadline import wait_until
from testbed.thermocline_client import ThermoclineError
from testbed.thermocline_daemon import ThermoclineDaemon

_NAMESPACE = "http://thermocline.org/xmlns/libvirt/domain/1.0"


class ManagedHost:
    """Context manager: the bus is there before the host, whose nova-compute is told of it; the daemon starts with start_daemon().
    folder: with a short name, since there are sockets in it."""

    def __init__(self, cloud, folder, name=FIRST):
        self.name = name
        self._cloud = cloud
        self._folder = folder
        self._bus = PrivateBus(folder / "bus")
        self.daemon = None
        self.client = None

    def __enter__(self):
        directory = self._folder / "bus"
        directory.mkdir(parents=True)
        directory.chmod(0o711)
        self._bus.__enter__()
        self.daemon = ThermoclineDaemon(self._bus.address, self._folder / "daemon")
        return self

    def __exit__(self, *exception):
        try:
            self._end_daemon()
        finally:
            self._bus.__exit__(*exception)

    @property
    def bus(self):
        """The daemon's own."""
        return self._bus

    def start_daemon(self):
        """Returns when it sees the host's libvirtd. REQUIRES: the host is up."""
        self.daemon.prefix = enter(self._cloud.processes, host=self.name)
        self.client = self.daemon.start()
        self.client.wait_for_manager_property("HypervisorState", "connected")

    def figures(self, server):
        """What the daemon says of the server's domain."""
        return self.client.wait_for_domain(server).figures()

    def wait_for_figures(self, server, what, condition, seconds=60.0):
        """The figures at the first moment when condition(figures) holds."""
        return self.client.wait_for_domain(server).wait_for(what, condition, seconds)

    def metadata(self, server):
        """The domain's <overcommit> element as libvirt has it; None where there is none."""
        result = self._virsh("metadata", server, _NAMESPACE)
        return result.stdout.strip() if result.returncode == 0 else None

    def domains(self):
        """The UUIDs of all that its libvirtd knows, running or not."""
        return self._virsh("list", "--all", "--uuid").stdout.split()

    def wait_until_forgotten(self, server):
        """Until the daemon knows of it no more."""
        wait_until("the daemon has forgotten the server", lambda: self.client.domain(server).path not in self.client.manager("ListDomains")[0])

    def booted(self, server, seconds=120.0):
        """A channel to the server's guestmem, once it is ready. The API tells nobody of what a console says."""
        wait_until("guestmem in the server is ready", lambda: '"ready"' in self._cloud.servers.console(server), seconds)
        return self.console(server)

    def console(self, server):
        """A channel to the guestmem of a server that has booted."""
        return SerialConsole(self._cloud.processes, server, self.name)

    def _virsh(self, *words):
        return subprocess.run(enter(self._cloud.processes, "virsh", "-q", *words, host=self.name), capture_output=True, text=True,
                              timeout=30, check=False)

    def _end_daemon(self):
        if self.client is not None:
            for path in self.client.manager("ListDomains")[0] if self.daemon.process else ():
                with contextlib.suppress(ThermoclineError):
                    self.client.domain(path.rsplit("/", 1)[1]).detach()
            self.client.close()
        self.daemon.close()
