# SPDX-License-Identifier: Apache-2.0
"""The whole of it in one object: host services, a private bus, one accelerator, guests and daemons."""

import contextlib
import signal

from .abandoned import clear_abandoned_runs
from .accelerator import choose_accelerator
from .bus import PrivateBus
from .guest import Guest, unique_name
from .guest_image import stage_guest_image
from .host_services import HostServices
from .kvm_device import kvm_device_for_libvirt
from .run_dir import run_directory
from .sizes import MIB


class Testbed:
    """Context manager; what it started is ended on the way out, in reverse order."""

    __test__ = False

    def __enter__(self):
        clear_abandoned_runs()
        with contextlib.ExitStack() as stack:
            stack.enter_context(kvm_device_for_libvirt())
            self.run_dir = stack.enter_context(run_directory())
            self.services = stack.enter_context(HostServices(self.run_dir))
            self.image = stage_guest_image(self.run_dir)
            self.accelerator = choose_accelerator(self.image, self.run_dir)
            self._stack = stack.pop_all()
        self._names = 0
        self._guests = []
        return self

    def __exit__(self, *exception):
        return self._stack.__exit__(*exception)

    def private_bus(self, name="bus"):
        directory = self.run_dir / name
        directory.mkdir()
        directory.chmod(0o711)
        return PrivateBus(directory)

    def guest(self, purpose="guest", memory_bytes=256 * MIB, **options):
        """Not started yet."""
        self._names += 1
        guest = Guest.create(f"{unique_name(purpose)}-{self._names}", self.image, self.run_dir, self.accelerator,
                             memory_bytes, **options)
        self._guests.append(guest)
        return guest

    def kill_guests(self):
        """Frees whoever waits for a guest that will not answer. May be called from another thread."""
        for guest in self._guests:
            process = guest.process
            if process is not None:
                process.signal(signal.SIGKILL)
