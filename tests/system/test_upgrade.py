# SPDX-License-Identifier: Apache-2.0
"""New programs are installed over the old ones and thermoclined is restarted, as a package does: managers are replaced, and
VMs under limits stay attached, with every byte right."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from testbed.paths import binary
from testbed.sizes import MIB

from .thermocline import Thermocline

_LIMIT = 112 * MIB
_PROGRAMS = ("thermoclined", "thermocline-manager")


def _version(program):
    return subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout.split()[-1]


def _install(directory, name, version=None):
    """As dpkg does: another file takes the name. With `version` it is the program of another version."""
    content = binary(name).read_bytes()
    if version:
        ours = _version(binary(name)).encode()
        assert len(ours) == len(version) and content.count(b"\0" + ours + b"\0") >= 1
        content = content.replace(b"\0" + ours + b"\0", b"\0" + version.encode() + b"\0")
    new = directory / f"{name}.dpkg-new"
    new.write_bytes(content)
    new.chmod(0o755)
    os.replace(new, directory / name)
    assert _version(directory / name) == (version or _version(binary(name)))


def _installed(directory, pid):
    """Does that manager run what is installed now?"""
    return os.path.samestat(os.stat(f"/proc/{pid}/exe"), os.stat(directory / "thermocline-manager"))


@pytest.fixture
def programs():
    """Where they are installed; those of an older version at first."""
    with tempfile.TemporaryDirectory(prefix="thermocline-", dir="/var/tmp") as directory:
        directory = Path(directory)
        for name in _PROGRAMS:
            _install(directory, name, version="0" * len(_version(binary(name))))
        yield directory


@pytest.fixture
def old(testbed, programs):
    """A thermoclined of the older version."""
    with Thermocline(testbed, start=False) as thermocline:
        thermocline.daemon.program, thermocline.daemon.manager = (programs / name for name in _PROGRAMS)
        thermocline.start()
        yield thermocline


def _upgrade(thermocline, programs):
    for name in _PROGRAMS:
        _install(programs, name)
    thermocline.daemon.end()
    thermocline.start()


def test_vms_under_limits_stay_attached(old, programs, guest, own_guest):
    second = own_guest("second").start()
    guests = [guest, second]
    domains = []
    for seed, each in enumerate(guests, 191):
        each.fill(128 * MIB, seed=seed)
        domains.append(old.attached(each, limit=_LIMIT))
        each.spin(threads=1, write_percent=30)
    before = old.daemon.managers()
    assert len(before) == 2 and all(_installed(programs, pid) for pid in before)

    _upgrade(old, programs)
    for each, domain in zip(guests, domains):
        domain = old.domain(each)
        domain.wait_for("another manager", lambda now: now["State"] == "attached"
                        and not set(before) & set(old.daemon.managers()) and len(old.daemon.managers()) == 2)
        figures = domain.figures()
        assert (figures["LimitBytes"], figures["StateNote"], figures["Pid"]) == (_LIMIT, "", each.pid)
        assert each.stop_spinning()["written_pages"] > 0
        each.verify()
        domain.wait_for_limit()
    assert all(_installed(programs, pid) for pid in old.daemon.managers())
    for each in guests:
        old.domain(each).detach()
        each.verify()


def test_a_restart_into_the_same_programs_replaces_nobody(old, programs, guest):
    guest.fill(128 * MIB, seed=193)
    old.attached(guest, limit=_LIMIT)
    before = old.daemon.managers()
    old.daemon.end()
    old.start()
    figures = old.domain(guest).wait_for_state("attached")
    assert old.daemon.managers() == before and figures["StateNote"] == ""


def test_programs_that_do_not_work_are_kept_away_from_vms(old, programs, guest):
    guest.fill(128 * MIB, seed=194)
    old.attached(guest, limit=_LIMIT)
    before = old.daemon.managers()
    broken = programs / "broken"
    broken.write_text("#!/bin/sh\necho 'libzstd.so.1: cannot open shared object file' >&2\nexit 127\n")
    broken.chmod(0o755)
    os.replace(broken, programs / "thermocline-manager")
    old.daemon.end()
    old.start()
    domain = old.domain(guest)
    figures = domain.wait_for("a note", lambda now: "is not the installed one" in now["StateNote"])
    assert figures["State"] == "attached" and "libzstd" in figures["StateNote"]
    assert old.daemon.managers() == before
    guest.verify()
    # The next one that is installed works.
    _upgrade(old, programs)
    domain = old.domain(guest)
    figures = domain.wait_for("another manager", lambda now: now["State"] == "attached" and now["StateNote"] == ""
                              and old.daemon.managers() not in ([], before))
    guest.verify()
    domain.wait_for_limit()
    domain.detach()
    guest.verify()


def test_a_file_tier_is_handed_over(old, programs, guest):
    with tempfile.TemporaryDirectory(prefix="thermocline-", dir="/var/tmp") as directory:
        old.daemon.end()
        old.daemon.options = ["--file-tier-dir", directory, "--file-tier-age", "1"]
        old.start()
        guest.fill(160 * MIB, seed=195)
        domain = old.attached(guest, limit=80 * MIB)  # less than the store takes: the rest has to go to the file
        domain.wait_for("memory in the file", lambda now: now["FrozenBytes"] > 24 * MIB, seconds=90)
        guest.spin(threads=1, write_percent=30)
        before = old.daemon.managers()
        _upgrade(old, programs)
        domain = old.domain(guest)
        figures = domain.wait_for("another manager", lambda now: now["State"] == "attached"
                                  and old.daemon.managers() not in ([], before))
        assert (figures["FileTier"], figures["StateNote"], figures["LostPages"]) == ("open", "", 0)
        assert figures["FrozenBytes"] > 8 * MIB
        assert guest.stop_spinning()["written_pages"] > 0
        guest.verify()
        domain.wait_for("faults from the file", lambda now: now["FrozenFaults"] > 0)
        domain.detach()
        guest.verify()


def test_what_cannot_be_handed_over_keeps_its_manager(old, programs, guest):
    """Where pages are copied, which of them were about to be dropped is known to their manager alone."""
    old.daemon.end()
    old.daemon.options = ["--mechanism", "copy"]
    old.start()
    guest.fill(128 * MIB, seed=196)
    old.attached(guest, limit=160 * MIB)
    before = old.daemon.managers()
    _upgrade(old, programs)
    domain = old.domain(guest)
    figures = domain.wait_for("a note", lambda now: "is not the installed one" in now["StateNote"])
    assert figures["State"] == "attached" and "cannot be moved" in figures["StateNote"]
    assert old.daemon.managers() == before
    guest.verify()
    domain.detach()
    guest.verify()
