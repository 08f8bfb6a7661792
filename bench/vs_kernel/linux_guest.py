# SPDX-License-Identifier: Apache-2.0
"""Subject "linux-guest": Linux in a domain of libvirt's, with Redis or SQLite in it and a client that counts (bench/guest/). It
answers the same commands as the other subjects, over a virtio serial port."""

import contextlib
import select
import shutil
import subprocess

import libvirt

from testbed.accelerator import choose_accelerator
from testbed.deadline import Deadline
from testbed.errors import TestbedError
from testbed.guest import Guest, unique_name
from testbed.guest_image import GuestImage
from testbed.machine_lock import machine_lock
from testbed.paths import GUEST_IMAGE, ROOT
from testbed.sizes import MIB
from testbed.testbed import Testbed

from .subject import OutOfMemory, SubjectError

_BUILD_IMAGE = ROOT / "bench/guest/build-image"
_IMAGE = GUEST_IMAGE.parent / "bench-guest"
# What a domain takes of the host once it has booted: QEMU, the guest's kernel and programs, and what booting touched.
_BESIDE = 180 * MIB
# For TCG's translated code, which no side can make smaller; enough for all that runs.
_TRANSLATED_MIB = 64
# With two, client and server would wake each other across processors: what is measured then is the host's scheduler.
_VCPUS = 1
_FILL_SECONDS = 300.0


def _build_image():
    result = subprocess.run([_BUILD_IMAGE, GUEST_IMAGE, _IMAGE], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            check=False)
    if result.returncode:
        raise TestbedError(f"cannot build the benchmark's guest: {result.stderr.strip()}")


class GuestHost:
    """Context manager: libvirt and an image, for one guest after the other. Nobody else tests with libvirt meanwhile."""

    def __init__(self, waiting):
        self._waiting = waiting
        self._made = 0

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(machine_lock(self._waiting))
            self._testbed = stack.enter_context(Testbed())  # builds the test guest, too: kernel and modules are the same
            _build_image()
            directory = self._testbed.run_dir
            self.image = GuestImage(kernel=directory / "bench-vmlinuz", initrd=directory / "bench-initrd", tools_initrd=None)
            shutil.copyfile(_IMAGE / "vmlinuz", self.image.kernel)
            shutil.copyfile(_IMAGE / "initrd", self.image.initrd)
            self.accelerator = choose_accelerator(self._testbed.image, directory)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        return self._stack.__exit__(*exception)

    def guest(self, memory_bytes):
        self._made += 1
        return Guest.create(unique_name(f"bench-{self._made}"), self.image, self._testbed.run_dir, self.accelerator,
                            memory_bytes, vcpus=_VCPUS, translated_mib=_TRANSLATED_MIB)


class LinuxGuest:
    """Context manager: booted inside, gone outside. `working_set`: what all of the domain should take of the host."""

    def __init__(self, host, database, working_set, cgroup):
        self._database = database
        self._record_bytes = working_set - _BESIDE
        self._cgroup = cgroup
        # More than it needs: a guest that runs out of memory would measure that.
        self._guest = host.guest(working_set + 256 * MIB)
        self._channel = None

    def __enter__(self):
        try:
            self._guest.start(before_boot=lambda pid: self._cgroup.add(pid))
        except libvirt.libvirtError as error:
            self._guest.close()
            raise SubjectError(f"libvirt does not start the guest: {error}") from None
        except BaseException:
            self._guest.close()
            raise
        self.process = self._guest.process
        self.pid = self._guest.pid
        return self

    def __exit__(self, *exception):
        self._guest.close()

    def command(self, text, seconds=120.0, tick=None):
        """As Subject.command: "fill", or "run WORKLOAD SECONDS"."""
        words = text.split()
        if words[0] == "fill":
            text, seconds = f"fill {self._database} {self._record_bytes}", _FILL_SECONDS
        else:
            text = f"run {words[2]}"
        channel = self._guest.channel
        try:
            channel.send(text)
            deadline = Deadline(seconds)
            while not select.select([channel], [], [], 0.05)[0] and not deadline.over:
                if tick:
                    tick()
            return channel.receive_answer(text, max(1.0, deadline.remaining))
        except (TestbedError, OSError) as error:
            if self._cgroup.oom_kills:
                raise OutOfMemory("killed by the kernel for want of memory in its cgroup (OOM)") from None
            raise SubjectError(f"{error}; the guest's console says: {self._guest.console_tail(5)}") from None
