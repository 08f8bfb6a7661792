# SPDX-License-Identifier: Apache-2.0
"""How each service is started, and how one sees that it is ready. The one place that knows."""

import socket
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from .errors import CloudError
from .configuration import host_configuration
from .host import FIRST, HOST_SERVICES, enter, host_command, ready_file, split_service

PORTS = {"epmd": 4369, "rabbitmq": 5672, "mariadb": 3306, "memcached": 11211, "keystone": 5000, "placement": 8778,
         "glance-api": 9292, "neutron-api": 9696, "nova-api": 8774}
# In the order in which they are started.
BACKING = ("epmd", "rabbitmq", "memcached", "mariadb", "host", "virtlogd", "libvirtd")
OPENSTACK = ("keystone", "placement", "nova-conductor", "nova-api", "glance-api", "neutron-api", "nova-scheduler",
             "nova-compute")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class _Start:
    command: list
    user: str | None = None
    environment: dict = field(default_factory=dict)


class Services:
    """Of one cloud. Not thread-safe."""

    def __init__(self, state, processes):
        self._state = state
        self._processes = processes
        etc = state.etc
        # No Python wrapper, proxy or CA bundle of the person's: it would change what is tested.
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(state.root / "home"), "LANG": "C.UTF-8",
            "OS_KEYSTONE_CONFIG_DIR": f"{etc}/keystone", "OS_PLACEMENT_CONFIG_DIR": f"{etc}/placement",
            "OS_GLANCE_CONFIG_DIR": f"{etc}/glance", "OS_NOVA_CONFIG_DIR": f"{etc}/nova",
            "OS_NEUTRON_CONFIG_DIR": f"{etc}/neutron", "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
            "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, name):
        """Starts it and does not wait; NAME@HOST is that of an added host. CloudError for a name that is none."""
        service, host = split_service(name)
        if service not in (BACKING + OPENSTACK if host == FIRST else HOST_SERVICES):
            raise CloudError(f"there is no service {name}; there are {' '.join(BACKING + OPENSTACK)}")
        of_host = (host,) if service in HOST_SERVICES else ()
        start = getattr(self, "_" + service.replace("-", "_"))(*of_host)
        self._processes.start(name, start.command, {**self.environment, **start.environment}, start.user)

    def wait_ready(self, name, seconds=60.0):
        """Until it answers on its port, or over HTTP where it has an API."""
        service, host = split_service(name)
        if service == "host":
            self._processes.wait_for(name, "its namespaces", ready_file(self._state, host).exists, seconds)
        elif service in ("virtlogd", "libvirtd"):
            path = str(self._state.host_folder(host) / f"run/libvirt/{'libvirt' if service == 'libvirtd' else 'virtlogd'}-sock")
            self._processes.wait_for(name, "its socket", lambda: _answers_unix(path), seconds)
        elif name in OPENSTACK:
            self._processes.wait_for(name, "an answer", lambda: _answers_http(PORTS[name]), seconds)
        else:
            self._processes.wait_for(name, f"port {PORTS[name]}", lambda: port_is_taken(PORTS[name]), seconds)

    def _epmd(self):
        return _Start(["epmd", "-address", "127.0.0.1"], "rabbitmq", {"HOME": str(self._state.root / "rabbit")})

    def _rabbitmq(self):
        state = self._state
        quiet = "+sbwt none +sbwtdcpu none +sbwtdio none"  # no busy waiting: the machine is small
        return _Start(["/usr/lib/rabbitmq/bin/rabbitmq-server"], "rabbitmq", {
            "HOME": str(state.root / "rabbit"), "ERL_EPMD_ADDRESS": "127.0.0.1", "RUNNING_UNDER_SYSTEMD": "1",
            "RABBITMQ_NODENAME": "minicloud@localhost", "RABBITMQ_MNESIA_BASE": str(state.root / "rabbit/mnesia"),
            "RABBITMQ_LOG_BASE": str(state.log / "rabbit"), "RABBITMQ_CONFIG_FILE": str(state.etc / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(state.etc / "rabbitmq_plugins"),
            "RABBITMQ_PID_FILE": str(state.root / "rabbit/pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {{127,0,0,1}} {quiet}"})

    def _memcached(self):
        return _Start(["memcached", "-u", "memcache", "-l", "127.0.0.1", "-p", str(PORTS["memcached"]), "-U", "0", "-m", "32", "-t", "2"])

    def _mariadb(self):
        return _Start(["mariadbd", f"--defaults-file={self._state.etc}/mariadb.cnf"], "mysql")

    def _host(self, host):
        ready_file(self._state, host).unlink(missing_ok=True)
        return _Start(host_command(self._state, host))

    def _virtlogd(self, host):
        return _Start(self._libvirts("virtlogd", host))

    def _libvirtd(self, host):
        # A limit of a billion descriptors would make libvirtd close as many in each child.
        return _Start(["prlimit", "--nofile=8192:8192", "--", *self._libvirts("libvirtd", host)])

    def _libvirts(self, program, host):
        # Its pid file would be /run/NAME.pid, which is the machine's.
        return enter(self._processes, program, "--pid-file", f"/run/libvirt/{program}.pid", host=host)

    def _keystone(self):
        return self._api("keystone", "/usr/bin/keystone-wsgi-public", "--post-buffering", "65536")

    def _placement(self):
        return self._api("placement", "/usr/bin/placement-api", "--post-buffering", "65536")

    def _glance_api(self):
        return self._api("glance-api", "/usr/bin/glance-wsgi-api")

    def _neutron_api(self):
        return self._api("neutron-api", "/usr/bin/neutron-api", "--post-buffering", "65536")

    def _nova_api(self):
        # Two processes of one thread: one that waits for RabbitMQ does not stop all of the API.
        return self._api("nova-api", "/usr/bin/nova-api-wsgi", "--post-buffering", "65536", "--master", "--lazy-apps", processes=2, threads=1,
                         arguments=f"--log-file {self._state.log}/nova-api.log", environment=self._driver_environment())

    def _nova_conductor(self):
        return _Start(["nova-conductor", "--config-file", f"{self._state.etc}/nova/nova.conf"])

    def _nova_scheduler(self):
        return _Start(["nova-scheduler", "--config-file", f"{self._state.etc}/nova/nova.conf"])

    def _nova_compute(self, host):
        python = self._state.venv / "bin/python3" if self._state.venv.exists() else "/usr/bin/python3"
        own = ["--config-file", host_configuration(self._state, host)] if host != FIRST else []
        return _Start(enter(self._processes, python, "/usr/bin/nova-compute", "--config-file", f"{self._state.etc}/nova/nova.conf", *own, host=host))

    def _driver_environment(self):
        packages = next(self._state.venv.glob("lib/python3*/site-packages"), None)
        return {"PYTHONPATH": str(packages)} if packages else {}

    @staticmethod
    def _api(name, script, *more, processes=1, threads=4, arguments="", environment=None):
        # uwsgi closes each connection; said aloud, or clients that keep connections get a reset.
        return _Start(["uwsgi_python3", "--http-socket", f"127.0.0.1:{PORTS[name]}", "--wsgi-file", script, "--processes", str(processes),
                       "--threads", str(threads), "--enable-threads", "--need-app", "--die-on-term", "--buffer-size", "65535",
                       "--thunder-lock", "--add-header", "Connection: close", "--pyargv", arguments, "--procname-prefix", f"{name} ",
                       *more], environment=environment or {})


def port_is_taken(port):
    """True where something listens on this port of 127.0.0.1."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _answers_unix(path):
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True


def _answers_http(port):
    try:
        _OPENER.open(f"http://127.0.0.1:{port}/", timeout=5).close()
    except urllib.error.HTTPError:
        return True  # whatever it says, it is there
    except OSError:
        return False
    return True
