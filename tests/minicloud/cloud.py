# SPDX-License-Identifier: Apache-2.0
"""Brings the cloud up and down. What up() started is ended where it fails or is interrupted."""

import calendar
import contextlib
import os
import shutil
import subprocess
import time

from testbed.deadline import Deadline

from .configuration import Options, write_configuration
from .databases import Databases
from .driver_install import install_driver
from .errors import CloudError
from .host import enter
from .identity import make_identities
from .images import make_flavors, make_images
from .processes import Processes
from .rest import ApiError
from .servers import Servers
from .services import BACKING, OPENSTACK, PORTS, Services, port_is_taken


class Cloud:
    """One cloud in one folder. say: gets a line for each step that is done. Not thread-safe; one process at a time."""

    def __init__(self, state, say=lambda line: None):
        self.state = state
        self.processes = Processes(state)
        self.services = Services(state, self.processes)
        self._say = say

    @property
    def servers(self):
        """Nova's API. REQUIRES: the cloud is up."""
        return Servers(self.state)

    def up(self, options=Options()):
        """From an empty folder, or from one that down() left, to a cloud that takes servers. CloudError where it cannot;
        what it had started is ended then."""
        if os.geteuid():
            raise CloudError("a cloud needs root: its guests are libvirt's")
        self._require_free_ports()
        self.state.make()
        try:
            self._up(options)
        except BaseException:
            self.down()
            raise

    def down(self, remove=False):
        """Powers its guests off and ends its services. remove: its folder goes, too; otherwise the next up() finds all servers."""
        if not self.state.exists:
            return
        self._end(reversed(OPENSTACK))
        self._say("OpenStack's services have ended")
        if self.processes.pid("libvirtd"):
            self._power_off_guests()
        self._end(reversed(BACKING))
        self._say("databases, messages and libvirtd have ended")
        if remove:
            self.state.remove()
            self._say(f"{self.state.root} is removed")

    def restart(self, name, options=None):
        """Ends one service and starts it, with new options where they are given; returns when it is ready."""
        self.processes.stop(name)
        if options is not None:
            self._configure(options)
        self._start([name])

    def install_driver(self):
        """Installs the checkout's Nova driver for nova-compute and nova-api; they find it when they start next. It stays for later
        starts; `compute_driver` says whether it is used."""
        install_driver(self.state)

    def status(self):
        """{service: pid, or None where it has died}."""
        return {name: self.processes.pid(name) for name in self.processes.names()}

    def _require_free_ports(self):
        names = self.status() if self.state.exists else {}
        taken = [f"{name} ({port})" for name, port in PORTS.items() if not names.get(name) and port_is_taken(port)]
        if taken:
            raise CloudError(f"these ports of 127.0.0.1 are taken: {', '.join(taken)}; another cloud, or the machine's own "
                             "services: end them first")

    def _up(self, options):
        fresh = not self.state.read()["ready"]
        databases = Databases(self.state, self.services.environment)
        self._configure(options)
        if options.driver == "thermocline":
            self.install_driver()
        databases.install()
        self._start(["epmd", "host", "rabbitmq", "memcached", "mariadb"], wait=False)
        for name in ("mariadb", "host"):
            self.services.wait_ready(name)
        self._start(["virtlogd", "libvirtd"])
        if fresh:
            databases.create()
            databases.fill()
        self.services.wait_ready("rabbitmq")
        self._say("databases, messages and libvirtd are up")
        self._start(["keystone"])
        if fresh:  # nova-scheduler ends for good where its user does not exist
            make_identities(self.servers.rest, self.state.password)
        self._start(["placement", "nova-conductor", "nova-api", "glance-api", "neutron-api", "nova-scheduler"], wait=False)
        for name in ("placement", "glance-api", "nova-api", "neutron-api"):
            self.services.wait_ready(name)
        self._warm_neutron()
        self._say("the APIs answer")
        began = time.time()
        self._start(["nova-compute"], wait=False)
        if fresh:
            make_flavors(self.servers.rest)
            make_images(self.servers.rest)
            self.processes.wait_for("nova-compute", "its record in placement", self.servers.providers, 60)
            databases.map_compute_host()
        self._wait_for_compute(began)
        self.state.remember(ready=True)
        self._say("the cloud takes servers")

    def _configure(self, options):
        write_configuration(self.state, options)
        for folder, user in (("rabbit", "rabbitmq"), ("log/rabbit", "rabbitmq"), ("mysql", "mysql"), ("run", "mysql")):
            shutil.chown(self.state.root / folder, user, user)
        messages = self.state.etc / "rabbitmq.conf"
        messages.chmod(0o600)
        shutil.chown(messages, "rabbitmq")
        log = self.state.log / "mariadb.log"
        log.touch()
        shutil.chown(log, "mysql")

    def _start(self, names, wait=True):
        for name in names:
            began = time.time()
            self.services.start(name)
            if wait and name == "nova-compute":
                self._wait_for_compute(began)
            elif wait and name not in ("nova-conductor", "nova-scheduler"):
                self.services.wait_ready(name)

    def _warm_neutron(self):
        # Until its first query has set up its tables' mappers, this neutron answers a list of ports with an error.
        rest = self.servers.rest
        rest.call("neutron-api", "GET", "/v2.0/networks")
        rest.call("neutron-api", "GET", "/v2.0/ports")

    def _wait_for_compute(self, since):
        """Until it has reported after that moment: a report of the run before reads "up", too."""
        servers = self.servers
        deadline = Deadline(90)
        while not self._compute_is_up(servers, since):
            if self.processes.pid("nova-compute") is None:
                raise CloudError(f"nova-compute has ended: {self.processes.tail('nova-compute')}; see also {self.state.log}/nova-compute.log")
            if deadline.over:
                raise CloudError(f"nova-compute does not report; see {self.state.log}/nova-compute.log")
            time.sleep(0.2)

    @staticmethod
    def _compute_is_up(servers, since):
        with contextlib.suppress(ApiError):
            service = servers.compute_service()
            if service and service["state"] == "up" and service["updated_at"] and servers.hypervisors():
                return calendar.timegm(time.strptime(service["updated_at"][:19], "%Y-%m-%dT%H:%M:%S")) >= int(since)
        return False

    def _end(self, names):
        names = list(names)
        # rabbitmq needs epmd to end, and guests' libvirtd the namespace: only OpenStack's services end side by side.
        if names[0] in OPENSTACK:
            self.processes.ask_to_end(names)
        for name in names:
            self.processes.stop(name)

    def _power_off_guests(self):
        """All of this libvirtd's are this cloud's. They stay defined: Nova shows a server whose domain is gone as ACTIVE."""
        names = subprocess.run(enter(self.processes, "virsh", "-q", "list", "--name"), capture_output=True, text=True,
                               timeout=30, check=False).stdout.split()
        for name in names:
            subprocess.run(enter(self.processes, "virsh", "-q", "destroy", name), capture_output=True, timeout=60, check=False)
