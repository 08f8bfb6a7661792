# SPDX-License-Identifier: Apache-2.0
"""A cloud whose nova-compute runs our driver, and a thermoclined that sees the cloud's libvirtd."""

import contextlib
import dataclasses
import json
import os
import re
import subprocess

from minicloud.cloud import Cloud
from minicloud.configuration import Options
from minicloud.host import enter
from minicloud.images import make_flavor
from minicloud.serial_console import SerialConsole
from minicloud.state import State
from testbed.abandoned import CLOUD_FOLDER
from testbed.bus import PrivateBus
from testbed.deadline import wait_until
from testbed.thermocline_client import ThermoclineError
from testbed.thermocline_daemon import ThermoclineDaemon

# For the host's free memory not to matter, and every figure to be reported.
_OPTIONS = ("headroom_mb = 0", "hysteresis_mb = 1", "timeout = 1.0")


class OvercommittedCloud:
    """Context manager. THERMOCLINE_MINICLOUD names the folder of a cloud to use and leave up; otherwise one is made in
    `folder` and removed."""

    def __init__(self, folder, say=print):
        kept = os.environ.get("THERMOCLINE_MINICLOUD")
        self._keep = bool(kept)
        self._folder = folder
        self.cloud = Cloud(State(kept or folder / CLOUD_FOLDER), say)
        self.client = None
        self._changed = False

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            directory = self._folder / "bus"
            directory.mkdir()
            directory.chmod(0o711)
            self.bus = stack.enter_context(PrivateBus(directory))
            if not self._keep:
                stack.callback(self.cloud.down, remove=True)
            self.options = Options(driver="thermocline", thermocline=(*_OPTIONS, f"bus_address = {self.bus.address}"))
            if self._keep and self.cloud.processes.pid("nova-api"):
                self.cloud.install_driver()
                self.cloud.restart("nova-api", self.options)
                self.cloud.restart("nova-compute")
            else:
                self.cloud.up(self.options)
            self.daemon = ThermoclineDaemon(self.bus.address, self._folder / "daemon")
            self.daemon.prefix = enter(self.cloud.processes)
            stack.callback(self._end_daemon)
            stack.callback(self.delete_servers)
            self.start_daemon()
            self.servers = self.cloud.servers
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        return self._stack.__exit__(*exception)

    @property
    def processes(self):
        """The cloud's."""
        return self.cloud.processes

    def start_daemon(self):
        """Returns when it sees the cloud's libvirtd."""
        self.client = self.daemon.start()
        self.client.wait_for_manager_property("HypervisorState", "connected")

    def put_right(self):
        """After a test: no servers, a daemon, and the driver's first settings."""
        if self.daemon.process is None:
            self.start_daemon()
        self.delete_servers()
        if self._changed:
            self.reconfigure()

    def reconfigure(self, **options):
        """Restarts nova-compute with fields of Options changed; without any, as it was at first."""
        self._changed = bool(options)
        self.cloud.restart("nova-compute", dataclasses.replace(self.options, **options))

    def wait_for_capacity(self, what, condition, seconds=60.0):
        """The MEMORY_MB inventory at the first look when condition(capacity in MiB) holds. Placement tells nobody."""
        def looks():
            inventory = self.servers.memory_inventory()
            return inventory if condition(inventory["total"] - inventory["reserved"]) else None
        return wait_until(f"capacity in Placement: {what}", looks, seconds)

    def delete_servers(self):
        """All of them, side by side."""
        servers = self.cloud.servers
        ids = [server["id"] for server in servers.list()]
        for server in ids:
            servers.delete(server, wait=False)
        for server in ids:
            servers.wait_for(server, "DELETED", 90)

    def flavor(self, name, mib, **specs):
        """specs without the prefix thermocline:. Returns the name."""
        make_flavor(self.servers.rest, name, mib, {f"thermocline:{key}": value for key, value in specs.items()})
        return name

    def resize(self, server, flavor):
        """To another flavor, on this host, and for good."""
        self.servers.act(server, "resize", {"flavorRef": flavor})
        self.servers.wait_for(server, "VERIFY_RESIZE")
        self.servers.act(server, "confirmResize")
        self.servers.wait_for(server, "ACTIVE")

    def rebuild(self, server, image):
        """From an image's id; returns when it runs again."""
        self.servers.act(server, "rebuild", {"imageRef": image})
        self.servers.wait_for(server, "ACTIVE")

    def figures(self, server):
        """What the daemon says of the server's domain."""
        return self.client.wait_for_domain(server).figures()

    def wait_for_figures(self, server, what, condition, seconds=60.0):
        """The figures at the first moment when condition(figures) holds."""
        return self.client.wait_for_domain(server).wait_for(what, condition, seconds)

    def metadata(self, server):
        """The domain's <overcommit> element as libvirt has it; None where there is none."""
        result = subprocess.run(enter(self.processes, "virsh", "metadata", server, "http://thermocline.org/xmlns/libvirt/domain/1.0"),
                                capture_output=True, text=True, timeout=30, check=False)
        return result.stdout.strip() if result.returncode == 0 else None

    def booted(self, server, seconds=120.0):
        """A channel to the server's guestmem, once it is ready. The API tells nobody of what a console says."""
        wait_until("guestmem in the server is ready", lambda: '"ready"' in self.servers.console(server), seconds)
        return SerialConsole(self.processes, server)

    def notifications(self, event, server):
        """Payloads of thermocline.EVENT about this server so far: this cloud's go to nova-compute's log."""
        found = re.findall(rf"oslo\.messaging\.notification\.thermocline\.{event} .*?(\{{.*\}})", self.log())
        return [payload for payload in (json.loads(each)["payload"] for each in found) if payload["server"] == server]

    def log(self, name="nova-compute"):
        """What a service of Nova has logged so far."""
        return (self.cloud.state.log / f"{name}.log").read_text(errors="replace")

    def _end_daemon(self):
        if self.client is not None:
            for path in self.client.manager("ListDomains")[0] if self.daemon.process else ():
                with contextlib.suppress(ThermoclineError):
                    self.client.domain(path.rsplit("/", 1)[1]).detach()
            self.client.close()
        self.daemon.close()
