# SPDX-License-Identifier: Apache-2.0
"""The message bus that a thermoclined of ours speaks on: a private one with the system bus's own configuration and the
project's policy, so that an installed Thermocline is never touched."""

import subprocess

from gi.repository import Gio, GLib

from .errors import TestbedError
from .paths import BUS_POLICY_FILES
from .processes import OwnedProcess
from .thermocline_client import BUS_NAME, connect

_DO_NOT_QUEUE = 4
_PRIMARY_OWNER = 1

_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <include>/usr/share/dbus-1/system.conf</include>
  <includedir>{policy}</includedir>
</busconfig>
"""


class PrivateBus:
    """Context manager. `address` is what --bus takes."""

    def __init__(self, run_dir):
        self._socket = run_dir / "bus"
        self._configuration = run_dir / "bus.conf"
        self._process = None
        self.address = None

    def __enter__(self):
        self._configuration.write_text(_CONFIGURATION.format(policy=BUS_POLICY_FILES))
        child = subprocess.Popen(
            ["dbus-daemon", f"--config-file={self._configuration}", f"--address=unix:path={self._socket}", "--nofork",
             "--nopidfile", "--nosyslog", "--print-address=1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True)
        self._process = OwnedProcess(child.pid, "dbus-daemon (private)", child)
        with child.stdout:
            self.address = child.stdout.readline().strip()  # comes when it is ready; ends when it fails
        if not self.address:
            self._process.end()
            raise TestbedError(f"the private message bus does not start; try: dbus-daemon --nofork --nopidfile "
                               f"--config-file={self._configuration}")
        return self

    def __exit__(self, *_):
        self._process.end()

    @property
    def process(self):
        """For tests that stop it and let it go on."""
        return self._process


class SystemBus:
    """The host's own, where its policy lets us own the project's name and nobody does yet. Same shape as PrivateBus."""

    address = "unix:path=/run/dbus/system_bus_socket"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def system_bus_is_free():
    """True where a thermoclined could own its name on the system bus."""
    connection = connect(SystemBus.address)
    try:
        reply = _bus_call(connection, "RequestName", GLib.Variant("(su)", (BUS_NAME, _DO_NOT_QUEUE)))
        if reply == _PRIMARY_OWNER:
            _bus_call(connection, "ReleaseName", GLib.Variant("(s)", (BUS_NAME,)))
        return reply == _PRIMARY_OWNER
    except GLib.Error:
        return False  # the policy is not installed: the bus refuses the name
    finally:
        connection.close_sync(None)


def _bus_call(connection, method, arguments):
    return connection.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", method,
                                arguments, None, Gio.DBusCallFlags.NONE, 5000, None).unpack()[0]
