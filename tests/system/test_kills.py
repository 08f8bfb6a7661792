# SPDX-License-Identifier: Apache-2.0
"""Managers and thermoclined die by SIGKILL while a guest verifies its memory under a limit; it goes on, with every byte
right."""

import os
import tempfile
from pathlib import Path

import pytest

from testbed.paths import BINARIES, BUILD
from testbed.sizes import MIB
from testbed.thermocline_client import ThermoclineError

from .qemu_state import QemuState, require_unchanged


@pytest.fixture
def busy(thermocline, guest):
    guest.fill(128 * MIB, seed=95)
    domain = thermocline.attached(guest, limit=112 * MIB)
    guest.spin(threads=2)
    return guest, domain


def managers_of(thermocline, guest):
    """Not those of other domains on this host."""
    directory = str(thermocline.domain_directory(guest)).encode()
    return [pid for pid in thermocline.daemon.managers() if directory in Path(f"/proc/{pid}/cmdline").read_bytes()]


def goes_on(thermocline, guest, domain, manager):
    """Another manager than `manager` serves the guest's faults, under the same limit."""
    domain.wait_for("another manager", lambda now: now["State"] == "attached"
                    and managers_of(thermocline, guest) not in ([], [manager]))
    guest.stop_spinning()
    guest.verify()
    figures = domain.wait_for_state("attached")
    assert figures["LimitBytes"] == 112 * MIB and figures["StateNote"] == ""
    guest.spin(threads=2)
    domain.wait_for_limit()


def ends_well(thermocline, guest, domain):
    guest.stop_spinning()
    guest.verify()
    domain.detach()
    assert not managers_of(thermocline, guest)
    guest.verify()


def test_a_manager_that_is_killed_again_and_again(thermocline, busy):
    guest, domain = busy
    for _ in range(4):
        (manager,) = managers_of(thermocline, guest)
        thermocline.kill_manager(manager)
        goes_on(thermocline, guest, domain, manager)
    ends_well(thermocline, guest, domain)


def test_manager_and_thermoclined_are_killed(thermocline, busy):
    guest, _domain = busy
    for managers_first in (True, False):
        (manager,) = managers_of(thermocline, guest)
        if managers_first:
            thermocline.kill_manager(manager)
            thermocline.daemon.kill()
        else:
            thermocline.daemon.kill()
            thermocline.kill_manager(manager)
        thermocline.start()
        domain = thermocline.domain(guest)
        goes_on(thermocline, guest, domain, manager)
    ends_well(thermocline, guest, domain)


def test_thermoclined_is_killed_while_a_manager_recovers(thermocline, busy):
    guest, _domain = busy
    (manager,) = managers_of(thermocline, guest)
    thermocline.kill_manager(manager)
    thermocline.daemon.kill()  # the recovering manager, where it was started, lives on
    thermocline.start()
    domain = thermocline.domain(guest)
    goes_on(thermocline, guest, domain, manager)
    ends_well(thermocline, guest, domain)


def test_what_is_in_the_file_tier_outlives_manager_and_thermoclined(thermocline_with, guest):
    with tempfile.TemporaryDirectory(prefix="file-tier-", dir=BUILD) as disk:  # the checkout is on a disk
        thermocline = thermocline_with("--file-tier-dir", disk, "--file-tier-age", "1")
        guest.fill(160 * MIB, seed=96)
        before = QemuState.of(guest)
        domain = thermocline.attached(guest, limit=80 * MIB)  # less than the store takes: the rest has to go to the file
        for round_ in range(2):
            domain.wait_for("memory in the file", lambda now: now["FrozenBytes"] > 24 * MIB, seconds=90)
            (manager,) = managers_of(thermocline, guest)
            thermocline.daemon.kill()
            thermocline.kill_manager(manager)
            # The file has no name: only what the VM's process holds open keeps it, and it cannot write there.
            assert os.listdir(disk) == []
            kept = [entry for entry in Path(f"/proc/{guest.pid}/fd").iterdir() if os.readlink(entry).startswith(disk)]
            assert len(kept) == 1
            flags = Path(f"/proc/{guest.pid}/fdinfo/{kept[0].name}").read_text().split("flags:\t")[1].split()[0]
            assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY
            thermocline.start()
            domain = thermocline.domain(guest)
            figures = domain.wait_for_state("attached")
            assert figures["FileTier"] == "open" and figures["FrozenBytes"] > 8 * MIB and figures["LostPages"] == 0
            guest.verify()
            domain.wait_for(f"faults from the file in round {round_}", lambda now: now["FrozenFaults"] > 0)
        domain.detach()
        guest.verify()
        require_unchanged(guest, before)


@pytest.mark.parametrize("point", ["remote-stopped:1", "remote-masked:1", "remote-entered:1", "remote-entered:5", "remote-returned:12",
                                   "remote-entered:15", "remote-returned:16", "remote-unmasked:1", "attachment-recorded:1"])
def test_a_manager_that_is_killed_while_it_attaches(thermocline, guest, monkeypatch, point):
    guest.fill(128 * MIB, seed=97)
    guest.spin(threads=2)
    before = QemuState.of(guest)
    thermocline.daemon.end()
    manager = thermocline.daemon.manager
    thermocline.daemon.manager = BINARIES.parent / "memory/manager/thermocline-manager-to-kill"
    monkeypatch.setenv("THERMOCLINE_KILL_AT", point)
    thermocline.start()
    with pytest.raises(ThermoclineError):
        thermocline.domain(guest).attach()
    guest.stop_spinning()
    guest.verify()
    assert thermocline.domain(guest).wait_for_state("detached")["Managed"] is False
    assert QemuState.of(guest).threads == before.threads

    monkeypatch.delenv("THERMOCLINE_KILL_AT")
    thermocline.daemon.end()
    thermocline.daemon.manager = manager
    thermocline.start()
    domain = thermocline.attached(guest, limit=160 * MIB)  # what other tests have left in the guest need not compress
    guest.verify()
    domain.detach()
    guest.verify()
