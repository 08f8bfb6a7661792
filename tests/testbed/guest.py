# SPDX-License-Identifier: Apache-2.0
"""A Linux guest under libvirt whose memory can be verified. Its domain is transient unless defined."""

import dataclasses
import os
import uuid
from pathlib import Path

import libvirt

from .domain_xml import DomainSpec, domain_xml
from .errors import TestbedError
from .guest_channel import GuestChannel
from .host_services import CONNECT_URI
from .processes import OwnedProcess

_LIBVIRT_LOGS = Path("/var/log/libvirt/qemu")
BOOT_SECONDS = 90.0


class Guest:
    """start() boots it, close() removes every trace. Not thread-safe."""

    def __init__(self, spec):
        self.spec = spec
        self.process = None
        self.channel = None
        self._defined = False

    @classmethod
    def create(cls, name, image, run_dir, accelerator, memory_bytes, **options):
        directory = run_dir / name
        directory.mkdir()
        # QEMU's user makes the socket and the log.
        directory.chmod(0o777)
        return cls(DomainSpec(name=name, uuid=str(uuid.uuid4()), image=image, directory=directory,
                              accelerator=accelerator, memory_bytes=memory_bytes, **options))

    @property
    def name(self):
        return self.spec.name

    @property
    def uuid(self):
        return self.spec.uuid

    @property
    def pid(self):
        return self.process.pid

    def domain(self):
        """A handle on a connection of its own: libvirtd may have been restarted since the last one."""
        return libvirt.open(CONNECT_URI).lookupByUUIDString(self.uuid)

    def define(self):
        """Makes the domain known to libvirt also while it is shut off."""
        libvirt.open(CONNECT_URI).defineXML(domain_xml(self.spec))
        self._defined = True

    def rename(self, name):
        """REQUIRES: defined and shut off."""
        self.domain().rename(name)
        remove_libvirt_log(self.name)
        self.spec = dataclasses.replace(self.spec, name=name)

    def start(self, boot_seconds=BOOT_SECONDS, before_boot=None):
        """Boots and returns when guestmem is ready. `before_boot` is called with QEMU's pid before it runs the guest."""
        domain = self.start_paused()
        if before_boot:
            before_boot(self.pid)
        self.channel = GuestChannel(self.spec.channel_path)
        domain.resume()
        self.wait_ready(boot_seconds)
        return self

    def start_paused(self):
        """Its process exists afterwards, and has not run an instruction of the guest."""
        self.spec.channel_path.unlink(missing_ok=True)
        connection = libvirt.open(CONNECT_URI)
        # Paused at first: the channel has to be open before the guest speaks.
        if self._defined:
            domain = connection.lookupByUUIDString(self.uuid)
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        else:
            domain = connection.createXML(domain_xml(self.spec), libvirt.VIR_DOMAIN_START_PAUSED)
        self.process = self._process(self._pid_file)
        self._require_sandbox()
        return domain

    def wait_ready(self, seconds=BOOT_SECONDS):
        try:
            return self.channel.wait_for_event("ready", seconds)
        except TestbedError as error:
            raise TestbedError(f"{self.name} does not boot: {error}; its console says:\n{self.console_tail()}") from None

    def find_again(self, pid_file=None):
        """Another process runs it now (restored, reverted, migrated here): talks to that one. The guest does not notice."""
        if self.channel is not None:
            self.channel.close()
        self.process = self._process(pid_file or self._pid_file)
        self.channel = GuestChannel(self.spec.channel_path)

    @property
    def _pid_file(self):
        return Path(f"/run/libvirt/qemu/{self.name}.pid")

    def _process(self, pid_file):
        return OwnedProcess(int(pid_file.read_text()), f"QEMU of {self.name}")

    def _require_sandbox(self):
        arguments = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
        if b"-sandbox" not in arguments or not arguments[arguments.index(b"-sandbox") + 1].startswith(b"on"):
            raise TestbedError(f"{self.name}: libvirt started QEMU without its sandbox; "
                               "remove seccomp_sandbox from /etc/libvirt/qemu.conf")

    def console_tail(self, lines=15):
        try:
            return "\n".join(self.spec.console_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError as error:
            return str(error)

    def fill(self, size, seed=1, random_percent=50):
        return self.channel.request(f"fill {size} {seed} {random_percent}", seconds=180)

    def verify(self):
        """Every byte of every page; raises GuestError on the first wrong one."""
        return self.channel.request("verify", seconds=300)

    def touch(self, pages, pattern="random", write=False, seed=1):
        return self.channel.request(f"touch {pattern} {pages} {'write' if write else 'read'} {seed}", seconds=300)

    def free(self, size):
        return self.channel.request(f"free {size}")

    def reset(self):
        """Forgets all memory under test, spinning or not."""
        return self.channel.request("reset")

    def spin(self, threads=2, write_percent=20):
        return self.channel.request(f"spin {threads} {write_percent}")

    def stop_spinning(self):
        return self.channel.request("stop")

    def start_program(self, *words):
        """finish_program() has to follow; other commands may come between."""
        self.channel.request(f"start {' '.join(words)}")

    def finish_program(self, seconds=120.0):
        """Waits for its end: (exit code, what it said)."""
        answer = self.channel.request("finish", seconds)
        return answer["exit_code"], answer["output"]

    def reboot(self):
        """Returns when guestmem runs again, in the same QEMU process."""
        self.channel.request("reboot")
        return self.wait_ready()

    def status(self):
        return self.channel.request("status")

    def destroy(self):
        """Ends the domain if it runs; it may be started again."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        try:
            self.domain().destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                raise
        if self.process is not None:
            self.process.end()
            self.process = None

    def close(self):
        try:
            self.destroy()
        finally:
            if self.process is not None:  # libvirt could not do it
                self.process.kill()
            if self._defined:
                self.domain().undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                                            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
                self._defined = False
            remove_libvirt_log(self.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def remove_libvirt_log(name):
    """libvirt keeps one per domain name, for ever."""
    (_LIBVIRT_LOGS / f"{name}.log").unlink(missing_ok=True)


def unique_name(purpose):
    return f"thermocline-{purpose}-{os.getpid()}"


