# SPDX-License-Identifier: Apache-2.0
"""The disk of the file tier is full, or fails: no byte of the guest is lost for it, and everybody is told."""

import contextlib

import pytest

from testbed.loop_disk import LoopDisk
from testbed.paths import BUILD
from testbed.sizes import MIB

_FILL = 160 * MIB
_LIMIT = 80 * MIB  # less than the store takes: the rest has to go to the file


@pytest.fixture
def place(testbed):
    return BUILD / f"disk-of-{testbed.run_dir.name}"  # the checkout is on a disk


@contextlib.contextmanager
def _on_own_disk(place, thermocline_with, guest, seed):
    """(disk, domain, thermocline), without a limit; it ends well, on a disk that works."""
    with LoopDisk(place, 96 * MIB) as disk:
        thermocline = thermocline_with("--file-tier-dir", str(disk.directory), "--file-tier-age", "1")
        guest.fill(_FILL, seed=seed)
        domain = thermocline.attached(guest)
        yield disk, domain, thermocline
        guest.verify()
        domain.detach()
        guest.verify()
        thermocline.daemon.end()


def _await_open_tier(domain):
    domain.wait_for("the tier to take pages again", lambda now: now["FileTier"] == "open" and now["FrozenBytes"] > 16 * MIB, seconds=90)


def test_the_disk_is_full_and_then_not(place, thermocline_with, guest):
    with _on_own_disk(place, thermocline_with, guest, seed=211) as (disk, domain, thermocline):
        ballast = disk.directory / "ballast"
        ballast.write_bytes(b"\xa5" * (80 * MIB))
        domain.set_limit(_LIMIT)
        figures = domain.wait_for("a disk that is full", lambda now: "No space left" in now["FileTier"], seconds=90)
        assert figures["State"] == "attached" and figures["LostPages"] == 0
        assert figures["FileBytes"] < 16 * MIB
        assert figures["FileTier"] in thermocline.ctl("file-tier", guest.name).out
        guest.verify()
        ballast.unlink()
        _await_open_tier(domain)


def test_writes_fail_and_then_not(place, thermocline_with, guest):
    with _on_own_disk(place, thermocline_with, guest, seed=212) as (disk, domain, _):
        with disk.failing():
            domain.set_limit(_LIMIT)
            figures = domain.wait_for("writes that fail", lambda now: "Input/output error" in now["FileTier"], seconds=90)
            assert str(disk.directory) in figures["FileTier"]
            guest.verify()  # what did not get to the disk was kept
            assert domain.figures()["LostPages"] == 0
        _await_open_tier(domain)


def test_reads_fail_and_then_not(place, thermocline_with, guest):
    with _on_own_disk(place, thermocline_with, guest, seed=213) as (disk, domain, _):
        domain.set_limit(_LIMIT)
        domain.wait_for("memory in the file", lambda now: now["FrozenBytes"] > 24 * MIB, seconds=90)
        with disk.failing():
            domain.clear_limit()
            # Where a processor of the guest waits for such a page already, the pause takes effect when it has it.
            figures = domain.wait_for("the domain to be paused", lambda now: "paused" in now["StateNote"])
            assert figures["LostPages"] > 0 and figures["State"] == "attached"
            assert "Input/output error" in figures["StateNote"]
        # What the disk gives again is as good as before: nothing was made up for it meanwhile.
        domain.set_limit(_LIMIT)
        domain.clear_limit()
        domain.wait_for("everything to be back", lambda now: now["FrozenBytes"] + now["ColdBytes"] == 0, seconds=60)
        figures = domain.wait_for("the domain to have been paused", lambda now: "it was paused" in now["StateNote"])
        assert f"virsh resume {guest.name}" in figures["StateNote"]
        guest.domain().resume()
