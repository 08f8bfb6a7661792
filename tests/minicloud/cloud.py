# SPDX-License-Identifier: Apache-2.0
"""Brings the cloud up and down. What up() started is ended where it fails or is interrupted."""

import calendar
import contextlib
import os
import shutil
import subprocess
import time

from testbed.deadline import Deadline

from .configuration import Options, write_configuration, write_host_configuration
from .databases import Databases
from .driver_install import install_driver
from .errors import CloudError
from .host import FIRST, enter, service_of, split_service
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
        self._end(self._started(reversed(OPENSTACK)))
        self._say("OpenStack's services have ended")
        for name in self._started(["libvirtd"]):
            if self.processes.pid(name):
                self.power_off_guests(split_service(name)[1])
        self._end(self._started(reversed(BACKING)))
        self._say("databases, messages and libvirtd have ended")
        if remove:
            self.state.remove()
            self._say(f"{self.state.root} is removed")

    def add_host(self, host, thermocline=()):
        """Another compute host, for as long as the cloud is up; thermocline: lines of its section [thermocline]. Returns when it takes
        servers. REQUIRES: the cloud is up."""
        self.state.make_nova_folder(host)
        write_host_configuration(self.state, host, thermocline)
        try:
            self._start([service_of(service, host) for service in ("host", "virtlogd", "libvirtd")])
            began = time.time()
            compute = service_of("nova-compute", host)
            self._start([compute], wait=False)
            self.processes.wait_for(compute, "its record in placement", lambda: self.servers.provider(host), 60)
            Databases(self.state, self.services.environment).map_compute_hosts()
            self._wait_for_compute(began, host)
        except BaseException:
            self._end_host(host)
            raise
        self._say(f"host {host} takes servers")

    def remove_host(self, host):
        """Ends what add_host() has started, and has Nova forget it. REQUIRES: Nova has no servers there."""
        self._end_host(host)
        self.servers.forget_compute(host)
        self._say(f"host {host} is gone")

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
            self.processes.wait_for("nova-compute", "its record in placement", self.servers.provider, 60)
            databases.map_compute_hosts()
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
            service, host = split_service(name)
            if wait and service == "nova-compute":
                self._wait_for_compute(began, host)
            elif wait and name not in ("nova-conductor", "nova-scheduler"):
                self.services.wait_ready(name)

    def _warm_neutron(self):
        # Until its first query has set up its tables' mappers, this neutron answers a list of ports with an error.
        rest = self.servers.rest
        rest.call("neutron-api", "GET", "/v2.0/networks")
        rest.call("neutron-api", "GET", "/v2.0/ports")

    def _wait_for_compute(self, since, host=FIRST):
        """Until it has reported after that moment: a report of the run before reads "up", too."""
        servers = self.servers
        deadline = Deadline(90)
        name = service_of("nova-compute", host)
        while not self._compute_is_up(servers, since, host):
            if self.processes.pid(name) is None:
                raise CloudError(f"{name} has ended: {self.processes.tail(name)}")
            if deadline.over:
                raise CloudError(f"{name} does not report; see {self.state.log}/{name}.log")
            time.sleep(0.2)

    @staticmethod
    def _compute_is_up(servers, since, host):
        with contextlib.suppress(ApiError):
            service = servers.compute_service(host)
            known = any(each["service"]["host"] == host for each in servers.hypervisors())
            if service and service["state"] == "up" and service["updated_at"] and known:
                return calendar.timegm(time.strptime(service["updated_at"][:19], "%Y-%m-%dT%H:%M:%S")) >= int(since)
        return False

    def _end_host(self, host):
        self.processes.stop(service_of("nova-compute", host))
        if self.processes.pid(service_of("libvirtd", host)):
            self.power_off_guests(host)
        for service in ("libvirtd", "virtlogd", "host"):
            self.processes.stop(service_of(service, host))

    def _started(self, services):
        """The names of these services on all hosts that were started, in this order."""
        names = self.processes.names()
        return [name for service in services for name in names if split_service(name)[0] == service]

    def _end(self, names):
        # rabbitmq needs epmd to end, and guests' libvirtd the namespace: only OpenStack's services end side by side.
        self.processes.ask_to_end([name for name in names if split_service(name)[0] in OPENSTACK])
        for name in names:
            self.processes.stop(name)

    def power_off_guests(self, host=FIRST):
        """All of this libvirtd's are this cloud's. They stay defined: Nova shows a server whose domain is gone as ACTIVE."""
        def virsh(*words):
            return subprocess.run(enter(self.processes, "virsh", "-q", *words, host=host), capture_output=True, text=True, timeout=60, check=False)
        for name in virsh("list", "--name").stdout.split():
            virsh("destroy", name)
