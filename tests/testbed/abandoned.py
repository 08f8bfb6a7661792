# SPDX-License-Identifier: Apache-2.0
"""Clears away what a run left behind that was killed before it could: its domains, its processes, its directory. Each of
them is known by the path of the dead run's directory, which no other run has."""

import contextlib
import os
import shutil
from pathlib import Path

import libvirt

from .errors import TestbedError
from .host_services import CONNECT_URI, end_system_bus
from .guest import remove_libvirt_log
from .processes import OwnedProcess
from .run_dir import abandoned_run_directories

# Of a run with an OpenStack (tests/minicloud), in the run's directory.
CLOUD_FOLDER = "cloud"
# The last to go are those that the others need.
_PROGRAMS = ("thermoclined", "thermocline-manager", "dbus-daemon", "libvirtd", "virtlogd")


def clear_abandoned_runs():
    """Returns the directories of the runs that were cleared away."""
    cleared = abandoned_run_directories()
    for directory in cleared:
        _end_cloud(directory)
        _end_domains(directory)
        for program in _PROGRAMS:
            for pid in _processes(program, directory):
                with contextlib.suppress(ProcessLookupError):
                    OwnedProcess(pid, program).end()
        end_system_bus(directory)
        shutil.rmtree(directory)
    return cleared


def _end_cloud(directory):
    from minicloud.cloud import Cloud  # it is built on the testbed; only what was left behind is known here
    from minicloud.state import State
    Cloud(State(directory / CLOUD_FOLDER)).down()


def _end_domains(directory):
    try:
        connection = libvirt.open(CONNECT_URI)
    except libvirt.libvirtError:
        if any(_processes("qemu-system-x86_64", directory)):
            raise TestbedError(f"libvirtd is away, but VMs of a killed run are not; start it: {directory}") from None
        return
    with contextlib.closing(connection):
        for domain in connection.listAllDomains():
            with contextlib.suppress(libvirt.libvirtError):  # it may end meanwhile
                if f"{directory}/" in domain.XMLDesc():
                    name, defined = domain.name(), domain.isPersistent()
                    if domain.isActive():
                        domain.destroy()
                    if defined:
                        domain.undefine()
                    remove_libvirt_log(name)


def _processes(program, directory):
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else [b""]
            if os.path.basename(words[0]) == program.encode() and any(f"{directory}/".encode() in word for word in words):
                found.append(int(entry.name))
    return found
