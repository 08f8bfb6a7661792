# SPDX-License-Identifier: Apache-2.0
"""What a guest does not use goes to an encrypted file on a disk, and comes back from it, by itself or all at once."""

import tempfile

import pytest

from testbed.paths import BUILD
from testbed.sizes import MIB

from .qemu_state import QemuState, require_unchanged
from .refusals import FAILURE, NOT_SUPPORTED, refused, refused_by_cli
from .thermocline import Thermocline


def _close(domain):
    domain.start("CloseFileTier").result()


@pytest.fixture
def disk_directory():
    """The checkout is on a disk; the run's own directory is in memory."""
    with tempfile.TemporaryDirectory(prefix="file-tier-", dir=BUILD) as directory:
        yield directory


def test_cold_memory_goes_to_the_disk_and_back(thermocline_with, disk_directory, guest):
    thermocline = thermocline_with("--file-tier-dir", disk_directory, "--file-tier-max", "512M", "--file-tier-age", "1")
    ctl = thermocline.ctl
    guest.fill(160 * MIB, seed=131)
    before = QemuState.of(guest)
    domain = thermocline.domain(guest)
    assert ctl("attach", guest.name).code == 0
    assert ctl("file-tier", guest.name).out.strip() == f"{guest.name}: file tier open"
    domain.set_limit(96 * MIB)
    figures = domain.wait_for("memory in the file", lambda figures: figures["FrozenBytes"] > 24 * MIB, seconds=90)
    assert figures["FileTier"] == "open" and 0 < figures["FileBytes"] <= 512 * MIB
    guest.verify()
    domain.wait_for("faults from the file", lambda figures: figures["FrozenFaults"] > 0)

    domain.wait_for("memory in the file again", lambda figures: figures["FrozenBytes"] > 0, seconds=60)
    assert "of guest memory in" in ctl("status", guest.name).out
    outcome = ctl("file-tier", guest.name, "off", "--json")
    assert outcome.code == 0, outcome
    closed = outcome.json()
    assert (closed["file_tier"], closed["frozen_bytes"], closed["file_bytes"]) == ("switched off", 0, 0)
    guest.verify()
    figures = domain.figures()
    assert (figures["FileTier"], figures["FrozenBytes"], figures["State"]) == ("switched off", 0, "attached")
    assert ctl("file-tier", guest.name, "off").out.strip() == f"{guest.name}: file tier switched off"

    domain.detach()
    guest.verify()
    require_unchanged(guest, before)
    # With the next attach comes a new file, under a new key.
    domain.attach()
    assert domain.figures()["FileTier"] == "open"


def test_a_directory_in_memory_is_done_without(thermocline_with, testbed, guest):
    thermocline = thermocline_with("--file-tier-dir", str(testbed.run_dir))
    guest.fill(64 * MIB, seed=132)
    domain = thermocline.domain(guest)
    refused("NotAttached", _close, domain)
    refused_by_cli(thermocline, FAILURE, "file-tier", guest.name, "off")
    domain.attach()
    note = domain.figures()["FileTier"]
    assert note.startswith("not in use: ") and str(testbed.run_dir) in note and "on a disk" in note
    assert note in thermocline.ctl("status", guest.name).out
    assert note in refused("NotSupported", _close, domain)
    assert note in refused_by_cli(thermocline, NOT_SUPPORTED, "file-tier", guest.name, "off")
    domain.set_limit(128 * MIB)
    domain.wait_for_limit()
    guest.verify()


def test_without_a_file_tier(thermocline, guest):
    domain = thermocline.domain(guest)
    domain.attach()
    assert (domain.figures()["FileTier"], domain.figures()["FrozenBytes"]) == ("", 0)
    assert thermocline.ctl("file-tier", guest.name).out.strip() == f"{guest.name}: file tier none"
    assert "--file-tier-dir" in refused("NotSupported", _close, domain)


@pytest.mark.parametrize("options, word", [
    (("--file-tier-dir", "/var/tmp", "--file-tier-max", "12X"), "12X"),
    (("--file-tier-dir", "/var/tmp", "--file-tier-per-day", "1K"), "1.0 MiB or more"),
    (("--file-tier-max", "1G"), "--file-tier-dir")])
def test_wrong_options(testbed, options, word):
    with Thermocline(testbed, start=False) as thermocline:
        thermocline.daemon.options = list(options)
        code, said = thermocline.daemon.run_to_end()
        assert code == 2 and word in said
