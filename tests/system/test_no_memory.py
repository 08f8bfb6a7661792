# SPDX-License-Identifier: Apache-2.0
"""The host has no memory where it is needed: the limit is then not met, and says why, or the attach is refused; the
guest's bytes are right all the time."""

import contextlib
import subprocess

from testbed.sizes import MIB
from testbed.thermocline_client import ThermoclineError

from .qemu_state import QemuState, require_unchanged
from .thermocline import Thermocline


@contextlib.contextmanager
def small_tmpfs(directory, size):
    directory.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def test_the_tmpfs_of_the_store_is_full(testbed, guest):
    guest.fill(160 * MIB, seed=201)
    with contextlib.ExitStack() as stack:
        thermocline = Thermocline(testbed, start=False)
        stack.enter_context(thermocline)
        # Taken away again before the daemon's directories are: its last manager is gone by then.
        with small_tmpfs(thermocline.daemon.runtime_dir, 24 * MIB):
            thermocline.start()
            domain = thermocline.domain(guest)
            domain.attach()
            domain.set_limit(112 * MIB)
            figures = domain.wait_for("a limit that cannot be met", lambda now: now["LimitNote"] != "")
            assert not figures["LimitMet"] and figures["State"] == "attached"
            assert figures["StoreBytes"] < 24 * MIB and figures["LostPages"] == 0
            guest.touch(4000, write=True)
            guest.spin(threads=2)
            domain.wait_for("faults", lambda now: now["Faults"] > figures["Faults"] + 500)
            guest.stop_spinning()
            guest.verify()
            domain.detach()
            guest.verify()
            thermocline.daemon.end()


def test_a_manager_with_too_little_memory(testbed, guest):
    """Wherever it meets the end of what it may have: it attaches and works, or nothing is left of the attempt."""
    guest.fill(96 * MIB, seed=202)
    before = QemuState.of(guest)
    attached = []
    for kib in (256, 1024, 4096, 1 << 20):
        with Thermocline(testbed, start=False) as thermocline:
            poor = thermocline.daemon.directory / "poor-manager"
            poor.write_text(f'#!/bin/sh\n[ "$1" != run ] || ulimit -d {kib}\nexec {thermocline.daemon.manager} "$@"\n')
            poor.chmod(0o755)
            thermocline.daemon.manager = poor
            thermocline.start()
            domain = thermocline.domain(guest)
            try:
                domain.attach()
            except ThermoclineError as error:
                assert error.message
                domain.wait_for_state("detached")
            else:
                attached.append(kib)
                domain.set_limit(200 * MIB)
                domain.wait_for_limit()
                guest.touch(1000, write=True)
                domain.detach()
            assert not thermocline.daemon.managers()
            guest.verify()
            require_unchanged(guest, before)
    assert attached == [1 << 20]
