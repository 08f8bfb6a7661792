# SPDX-License-Identifier: Apache-2.0
"""The host's own services that libvirt needs: system bus, virtlogd, libvirtd. What runs already is used as it is."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
from pathlib import Path

import libvirt

from .deadline import wait_until
from .errors import TestbedError
from .processes import OwnedProcess

CONNECT_URI = "qemu:///system"
_BUS_SOCKET = Path("/run/dbus/system_bus_socket")
_BUS_PID = Path("/run/dbus/pid")
_BUS_NOTE = "system-bus.pid"  # in the run's directory: the bus that this run started
_VIRTLOGD_SOCKET = Path("/run/libvirt/virtlogd-sock")

# Errors come as exceptions; libvirt's C library would print each one to stderr as well.
libvirt.registerErrorHandler(lambda _context, _error: None, None)


def _answers(path):
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def _libvirtd_answers():
    try:
        libvirt.open(CONNECT_URI).close()
    except libvirt.libvirtError:
        return False
    return True


def limit_files():
    # libvirtd closes every possible descriptor in each child; with a limit of a billion that takes a minute. This is
    # what its systemd unit sets.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def _run(*command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True,
                            preexec_fn=limit_files, timeout=60, check=False)
    if result.returncode:
        raise TestbedError(f"cannot start {command[0]}: {result.stderr.strip() or result.stdout.strip()}")


def _remove_bus_files():
    # dbus-daemon leaves these behind.
    _BUS_PID.unlink(missing_ok=True)
    _BUS_SOCKET.unlink(missing_ok=True)


def end_system_bus(run_dir):
    """Ends the system bus where the run of that directory started it. For runs that could not do so themselves."""
    note = run_dir / _BUS_NOTE
    if note.exists() and _BUS_PID.exists() and note.read_text() == _BUS_PID.read_text().strip():
        try:
            OwnedProcess(int(note.read_text()), "dbus-daemon").end()
        except ProcessLookupError:
            pass
        _remove_bus_files()


class HostServices:
    """Context manager. `started` names what was not running before."""

    def __init__(self, run_dir):
        self._run_dir = run_dir
        self._owned = {}

    @property
    def started(self):
        return list(self._owned)

    def __enter__(self):
        try:
            if not _answers(_BUS_SOCKET):
                self._start_bus()
            if not _answers(_VIRTLOGD_SOCKET):
                self._start_daemon("virtlogd")
            if not _libvirtd_answers():
                self._start_daemon("libvirtd")
                wait_until("libvirtd answers", _libvirtd_answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in reversed(list(self._owned)):
            self._owned.pop(name).end()
            if name == "dbus-daemon":
                _remove_bus_files()

    @property
    def owns_libvirtd(self):
        return "libvirtd" in self._owned

    def stop_libvirtd(self):
        """REQUIRES: owns_libvirtd."""
        self._owned.pop("libvirtd").end()

    def start_libvirtd(self):
        """REQUIRES: no libvirtd runs."""
        self._start_daemon("libvirtd")
        wait_until("libvirtd answers", _libvirtd_answers)

    @contextlib.contextmanager
    def frozen_libvirtd(self):
        """It answers nobody meanwhile. REQUIRES: owns_libvirtd."""
        self._owned["libvirtd"].signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._owned["libvirtd"].signal(signal.SIGCONT)

    def _start_bus(self):
        _BUS_PID.parent.mkdir(exist_ok=True)
        # The pid file of a bus that is dead keeps the next one from starting.
        if _BUS_PID.exists() and not os.path.exists(f"/proc/{_BUS_PID.read_text().strip()}"):
            _BUS_PID.unlink()
        _run("dbus-daemon", "--system", "--fork")
        pid = int(_BUS_PID.read_text())
        (self._run_dir / _BUS_NOTE).write_text(str(pid))
        self._owned["dbus-daemon"] = OwnedProcess(pid, "dbus-daemon")

    def _start_daemon(self, name):
        pid_file = self._run_dir / f"{name}.pid"
        _run(name, "-d", "-p", str(pid_file))  # returns when it is ready
        self._owned[name] = OwnedProcess(int(pid_file.read_text()), name)
