# SPDX-License-Identifier: Apache-2.0
"""Guests whose RAM is a shared memfd: pages are unmapped, and punched out of it, with every byte kept; refused where
somebody else reads or writes that file."""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from testbed.deadline import wait_until
from testbed.sizes import KIB, MIB

from .conftest import DISK_BYTES
from .qemu_state import QemuState, require_unchanged
from .refusals import NOT_SUPPORTED, refused, refused_by_cli

SHARED = "<source type='memfd'/><access mode='shared'/>"

# Holds a file mapped, or only open, until its standard input ends.
_HOLDER = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
if sys.argv[2] == "mapped":
    kept = mmap.mmap(file, mmap.PAGESIZE)
    os.close(file)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def shared_guest(testbed):
    guest = testbed.guest("memfd", 256 * MIB, memory_backing=SHARED)
    guest.start()
    yield guest
    guest.close()


@pytest.fixture
def guest(shared_guest):
    yield shared_guest
    shared_guest.reset()


@pytest.fixture
def thermocline(thermocline_with):
    """One that takes shared memory."""
    return thermocline_with("--mechanism", "unmap")


def _memfd(guest):
    """Path of QEMU's descriptor of guest RAM."""
    for entry in Path(f"/proc/{guest.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(entry).startswith("/memfd:") and entry.stat().st_size == 256 * MIB:
                return entry
    raise AssertionError("QEMU has no memfd of the size of guest RAM")


def _bytes_in_memory(guest):
    return _memfd(guest).stat().st_blocks * 512


@contextlib.contextmanager
def _holder(guest, how):
    """Another process that has guest RAM's file, as the back end of a vhost-user device has."""
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(_memfd(guest)), how], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process


def test_shared_memory_is_refused_where_nobody_asked_for_it(thermocline_with, guest):
    message = refused("NotSupported", thermocline_with().domain(guest).attach)
    assert "guest RAM is shared" in message and "--mechanism unmap" in message


def test_private_memory_is_taken_as_ever(thermocline, own_guest):
    guest = own_guest("private", memory_backing="").start()
    domain = thermocline.domain(guest)
    domain.attach()
    assert domain.figures()["Mechanism"] == "move"


def test_no_byte_of_shared_memory_changes(thermocline, guest):
    guest.fill(160 * MIB, seed=241)
    before = QemuState.of(guest)
    domain = thermocline.domain(guest)
    domain.attach()
    assert domain.figures()["Mechanism"] == "unmap"
    guest.spin(threads=2, write_percent=30)
    domain.set_limit(128 * MIB)
    faults = domain.figures()["Faults"]
    domain.wait_for("faults under the limit", lambda figures: figures["Faults"] > faults + 2000)
    assert guest.stop_spinning()["written_pages"] > 0
    squeezed = domain.wait_for_limit()
    assert squeezed["ColdBytes"] > 0
    guest.verify()
    domain.clear_limit()
    domain.detach()
    guest.verify()
    require_unchanged(guest, before)


def test_what_is_cold_takes_no_memory(thermocline, guest):
    guest.fill(160 * MIB, seed=242, random_percent=20)
    domain = thermocline.domain(guest)
    domain.attach()
    domain.set_limit(112 * MIB)
    figures = domain.wait_for_limit()
    # The limit bounds what is in the store, too.
    assert _bytes_in_memory(guest) <= 112 * MIB - figures["StoreBytes"] + 2 * MIB
    assert figures["ResidentBytes"] + figures["StagedBytes"] == pytest.approx(_bytes_in_memory(guest), abs=2 * MIB)
    guest.verify()


def test_the_balloon_and_reported_free_pages(thermocline, guest):
    guest.fill(64 * MIB, seed=243)
    domain = thermocline.domain(guest)
    domain.attach()
    domain.set_limit(128 * MIB)
    domain.wait_for_limit()
    for round_number in range(3):
        guest.fill(80 * MIB, seed=244 + round_number)
        guest.touch(4000, write=True)
        guest.verify()
        guest.free(80 * MIB)
    free = guest.status()["free_bytes"]
    guest.domain().setMemory(192 * MIB // KIB)
    wait_until("the balloon inflates", lambda: guest.status()["free_bytes"] < free - 48 * MIB)
    guest.verify()
    guest.domain().setMemory(256 * MIB // KIB)
    wait_until("the balloon deflates", lambda: guest.status()["free_bytes"] > free - 8 * MIB)
    # The same guest pages again, with other content: nothing of the old may come back.
    guest.fill(64 * MIB, seed=248)
    guest.verify()
    domain.wait_for_limit()
    guest.verify()


def test_a_guest_whose_disk_writes_into_its_memory_is_refused(thermocline, own_guest):
    with tempfile.NamedTemporaryFile(prefix="thermocline-", dir="/var/tmp") as file:
        file.truncate(DISK_BYTES)
        guest = own_guest("memfd-disk", disk=Path(file.name), memory_backing=SHARED).start()
        message = refused("NotSupported", thermocline.domain(guest).attach)
        assert "is open with O_DIRECT" in message and "private memory" in message
        assert "O_DIRECT" in refused_by_cli(thermocline, NOT_SUPPORTED, "attach", guest.name)
        guest.close()


@pytest.mark.parametrize("how", ["mapped", "open"])
def test_a_guest_whose_memory_another_process_has_is_refused(thermocline, guest, how):
    guest.fill(16 * MIB, seed=249)
    domain = thermocline.domain(guest)
    with _holder(guest, how) as process:
        message = refused("NotSupported", domain.attach)
        assert f"process {process.pid} (python" in message and f"{how}, too" in message and "vhost-user" in message
        assert "vhost-user" in refused_by_cli(thermocline, NOT_SUPPORTED, "attach", guest.name)
    domain.attach()
    assert domain.figures()["State"] == "attached"
    guest.verify()


def test_a_process_that_gets_the_memory_later_ends_it(thermocline, guest):
    guest.fill(160 * MIB, seed=250)
    domain = thermocline.domain(guest)
    domain.attach()
    domain.set_limit(128 * MIB)
    assert domain.wait_for_limit()["ColdBytes"] > 0
    with _holder(guest, "mapped") as process:
        figures = domain.wait_for("the reason", lambda figures: str(process.pid) in figures["StateNote"])
        assert (figures["State"], figures["Managed"]) == ("detached", True)
        assert "vhost-user" in figures["StateNote"]
        guest.verify()
    domain.attach()
    domain.wait_for_limit()
    guest.verify()
