# SPDX-License-Identifier: Apache-2.0
"""A cloud whose nova-compute runs our driver, and a thermoclined that sees the cloud's libvirtd."""

import contextlib
import dataclasses
import json
import os
import re

from minicloud.cloud import Cloud
from minicloud.configuration import Options
from minicloud.images import make_flavor
from minicloud.state import State
from testbed.abandoned import CLOUD_FOLDER
from testbed.deadline import wait_until

from .managed_host import ManagedHost

# For the host's free memory not to matter, and every figure to be reported.
_OPTIONS = ("headroom_mb = 0", "hysteresis_mb = 1", "timeout = 1.0")

_MORE_THAN_THERE_IS = 1 << 30  # MiB


class OvercommittedCloud:
    """Context manager. THERMOCLINE_MINICLOUD names the folder of a cloud to use and leave up; otherwise one is made in
    `disk` and removed: not below /dev, where Nova takes a server's disk for a logical volume and cannot shelve it. `folder` is in memory."""

    def __init__(self, folder, disk, say=print):
        kept = os.environ.get("THERMOCLINE_MINICLOUD")
        self._keep = bool(kept)
        self._folder = folder
        self.cloud = Cloud(State(kept or disk / CLOUD_FOLDER), say)
        self._changed = False

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            if not self._keep:
                stack.callback(self.cloud.down, remove=True)
            # After it, so that it goes first: managers end before the VMs are powered off.
            self.first = stack.enter_context(ManagedHost(self.cloud, self._folder / "1"))
            self.options = Options(driver="thermocline", thermocline=_lines(self.first))
            if self._keep and self.cloud.processes.pid("nova-api"):
                self.cloud.install_driver()
                self.cloud.restart("nova-api", self.options)
                self.cloud.restart("nova-compute")
            else:
                self.cloud.up(self.options)
            stack.callback(self.delete_servers)
            self.first.start_daemon()
            self.servers = self.cloud.servers
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        return self._stack.__exit__(*exception)

    @property
    def processes(self):
        """The cloud's."""
        return self.cloud.processes

    def __getattr__(self, name):
        """bus, daemon, client, figures(), metadata(), ...: of the first host, which most tests are about."""
        if name == "first":
            raise AttributeError("the cloud is not up")
        return getattr(self.first, name)

    @contextlib.contextmanager
    def second_host(self, name="second"):
        """Another compute host, managed; it is gone afterwards, with its servers."""
        with ManagedHost(self.cloud, self._folder / "2", name) as host:
            self.cloud.add_host(name, _lines(host))
            try:
                host.start_daemon()
                yield host
            finally:
                self.delete_servers()
                self.cloud.remove_host(name)

    def put_right(self):
        """After a test: no servers, a daemon, and the driver's first settings."""
        if self.daemon.process is None:
            self.first.start_daemon()
        self.delete_servers()
        if self._changed:
            self.reconfigure()

    def reconfigure(self, **options):
        """Restarts nova-compute with fields of Options changed; without any, as it was at first."""
        self._changed = bool(options)
        self.cloud.restart("nova-compute", dataclasses.replace(self.options, **options))

    def press(self, *thermocline):
        """The first host is to be short of memory from now on; thermocline: more lines of that section."""
        self.reconfigure(thermocline=(*self.options.thermocline, f"headroom_mb = {_MORE_THAN_THERE_IS}", "evict_interval = 1", *thermocline))

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

    def notifications(self, event, server):
        """Payloads of thermocline.EVENT about this server so far: this cloud's go to nova-compute's log."""
        found = re.findall(rf"oslo\.messaging\.notification\.thermocline\.{event} .*?(\{{.*\}})", self.log())
        return [payload for payload in (json.loads(each)["payload"] for each in found) if payload["server"] == server]

    def log(self, name="nova-compute"):
        """What a service of Nova has logged so far."""
        return (self.cloud.state.log / f"{name}.log").read_text(errors="replace")


def _lines(host):
    return (*_OPTIONS, f"bus_address = {host.bus.address}")
