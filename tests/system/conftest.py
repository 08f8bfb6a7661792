# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the system tests. A test gets a thermoclined of its own on a bus of its own; a guest is either its own or
the module's, which is given back empty and detached."""

import contextlib
import os
import signal
import tempfile
import threading
from pathlib import Path

import pytest

from testbed.errors import TestbedError
from testbed.sizes import MIB
from testbed.testbed import Testbed

from .thermocline import Thermocline

# A test that hangs is stuck in libvirt or in the guest; without its guests it fails at once, and cleans up. Long forms need
# more.
_TEST_SECONDS = float(os.environ.get("THERMOCLINE_TEST_SECONDS", "300"))

DISK_BYTES = 48 * MIB

# Content of <memoryBacking> of all guests that say nothing else, to run the same tests over another kind of memory.
MEMORY_BACKING = os.environ.get("THERMOCLINE_MEMORY_BACKING", "")


def _terminate(_number, _frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt("SIGTERM")


@pytest.fixture(scope="session")
def testbed():
    before = signal.signal(signal.SIGTERM, _terminate)
    with Testbed() as bed:
        yield bed
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def watchdog(testbed):
    timer = threading.Timer(_TEST_SECONDS, testbed.kill_guests)
    timer.start()
    yield
    timer.cancel()


@pytest.fixture(scope="module")
def module_guests(testbed):
    """Keeps one guest per module running; boots another where a test has lost it."""
    kept = []

    def running():
        if kept and (kept[0].process is None or not kept[0].process.running):
            kept.pop().close()
        if not kept:
            guest = testbed.guest("shared", 256 * MIB, memory_backing=MEMORY_BACKING)
            kept.append(guest)
            guest.start()
        return kept[0]

    yield running
    for guest in kept:
        guest.close()


@pytest.fixture
def guest(module_guests):
    """A running guest with nothing under test in it yet; shared with the module's other tests, one after the other."""
    guest = module_guests()
    yield guest
    if guest.process is None or not guest.process.running:
        return
    try:
        guest.reset()
    except TestbedError:
        guest.close()  # it does not answer: the next test gets a new one


@pytest.fixture
def own_guest(testbed):
    """Makes guests that are this test's alone; they are gone after it. Not started."""
    made = []

    def make(purpose="own", memory_bytes=256 * MIB, **options):
        made.append(testbed.guest(purpose, memory_bytes, **{"memory_backing": MEMORY_BACKING, **options}))
        return made[-1]

    yield make
    for guest in made:
        guest.close()


@pytest.fixture
def guest_with_disk(own_guest, request):
    """A guest with a disk of DISK_BYTES that its QEMU has opened with O_DIRECT; parameter: how QEMU uses it."""
    # On a real file system: tmpfs takes O_DIRECT without pinning a page.
    with tempfile.NamedTemporaryFile(prefix="thermocline-", dir="/var/tmp") as file:
        file.truncate(DISK_BYTES)
        guest = own_guest("disk", disk=Path(file.name), disk_io=getattr(request, "param", "threads")).start()
        yield guest
        guest.close()


@pytest.fixture
def thermocline_with(testbed):
    """Makes a thermoclined with these command line options."""
    with contextlib.ExitStack() as stack:
        def make(*options):
            thermocline = Thermocline(testbed, start=False)
            stack.enter_context(thermocline)
            thermocline.daemon.options = list(options)
            thermocline.start()
            return thermocline
        yield make


@pytest.fixture
def thermocline(testbed):
    """A thermoclined that runs, with a client and thermoctl. Afterwards no VM is attached and no manager is left."""
    with Thermocline(testbed, start=False) as thermocline:
        if MEMORY_BACKING:
            thermocline.daemon.options = ["--mechanism", "unmap"]
        thermocline.start()
        yield thermocline
