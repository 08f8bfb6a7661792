# SPDX-License-Identifier: Apache-2.0
"""A VM that is paused for long gives all of its memory back, and has it again when it is resumed."""

import struct
import tempfile

import pytest
from gi.repository import GLib

from testbed.process_view import guest_ram
from testbed.sizes import KIB, MIB
from testbed.virsh import overcommit, set_overcommit, virsh

_FILL = 160 * MIB
_FLOOR = 16 * MIB
PAGE = 4 * KIB
_EVERY = 29  # pages: one of so many is looked at


def _in_memory(figures):
    return figures["ResidentBytes"] + figures["StagedBytes"]


def _freeze_paused(domain, seconds=1):
    domain.start("SetFreezePaused", GLib.Variant("(u)", (seconds,))).result()


def _frozen(domain):
    return domain.wait_for("its memory to go", lambda now: now["Activity"] == "paused" and _in_memory(now) < _FLOOR)


def _resumed(guest, domain, at_least):
    """All by itself: nothing touches the guest's memory but what runs in it anyway."""
    virsh("resume", guest.name)
    figures = domain.wait_for("what it had to be back",
                              lambda now: now["Activity"] == "running" and _in_memory(now) > at_least)
    guest.verify()
    return figures


@pytest.fixture
def suspended(guest):
    """The guest runs again afterwards, whatever the test has done."""
    yield guest
    if guest.domain().state()[0] == 3:
        guest.domain().resume()


def test_paused_without_a_limit(thermocline, suspended):
    guest = suspended
    guest.fill(_FILL, seed=171)
    domain = thermocline.attached(guest)
    _freeze_paused(domain)
    before = _in_memory(domain.figures())
    virsh("suspend", guest.name)
    figures = _frozen(domain)
    assert figures["UsedBytes"] < before * 3 // 4  # half of what is in it is noise
    assert "paused" in thermocline.ctl("status", guest.name).out
    figures = _resumed(guest, domain, before - 8 * MIB)
    assert figures["ColdBytes"] == 0
    domain.detach()
    guest.verify()


def _places(guest, region, pages):
    """Of some pages of a region: where in the guest's memory."""
    return [guest.channel.request(f"where {region} {page}")["physical"] for page in range(0, pages, _EVERY)]


def _present(guest, ram, places):
    """Those whose page is in the process's memory."""
    with open(f"/proc/{guest.pid}/pagemap", "rb", buffering=0) as pagemap:
        there = set()
        for place in places:
            pagemap.seek((ram + place) // PAGE * 8)
            if struct.unpack("<Q", pagemap.read(8))[0] >> 63:
                there.add(place)
        return there


def test_what_it_worked_with_comes_back_under_a_limit(thermocline, suspended):
    guest = suspended
    ram = guest_ram(guest.pid, guest.spec.memory_bytes)
    guest.fill(112 * MIB, seed=172)
    guest.fill(48 * MIB, seed=173)
    places = _places(guest, 0, 112 * MIB // PAGE) + _places(guest, 1, 48 * MIB // PAGE)
    domain = thermocline.attached(guest, limit=144 * MIB)
    _freeze_paused(domain)
    guest.touch(8000)
    # Told of a limit, reclaim goes on until there is headroom; else it may rest before, or be at work still.
    domain.set_limit(143 * MIB)
    before = domain.wait_for("the touched to be counted, and reclaim to be through",
                             lambda now: now["Faults"] > 4000 and now["UsedBytes"] + 4 * MIB <= 143 * MIB)
    worked_with = _present(guest, ram, places)
    assert 100 < len(worked_with) < len(places) - 100
    virsh("suspend", guest.name)
    _frozen(domain)
    assert len(_present(guest, ram, places)) < 20
    virsh("resume", guest.name)
    back = domain.wait_for("what it had to be back", lambda now: now["Activity"] == "running"
                           and _in_memory(now) > _in_memory(before) * 7 // 8)
    assert back["UsedBytes"] <= 143 * MIB
    # By the page: not what happens to lie beside it. What is staged is in memory, too, and cannot be seen at its place.
    present = _present(guest, ram, places)
    staged = max(back["StagedBytes"], domain.figures()["StagedBytes"]) // (_EVERY * PAGE)
    assert len(present & worked_with) + staged > len(worked_with) * 3 // 4
    assert len(present - worked_with) < (len(places) - len(worked_with)) // 4
    guest.verify()
    domain.wait_for_limit()
    domain.detach()
    guest.verify()


def test_paused_with_a_file_tier(thermocline_with, suspended):
    guest = suspended
    with tempfile.TemporaryDirectory(prefix="thermocline-", dir="/var/tmp") as directory:
        thermocline = thermocline_with("--file-tier-dir", directory, "--file-tier-age", "1")
        guest.fill(_FILL, seed=174)
        domain = thermocline.attached(guest)
        _freeze_paused(domain)
        before = _in_memory(domain.figures())
        virsh("suspend", guest.name)
        figures = domain.wait_for("its memory to be on the disk", lambda now: now["Activity"] == "paused"
                                  and now["UsedBytes"] < 32 * MIB)
        assert figures["FrozenBytes"] > 128 * MIB
        _resumed(guest, domain, before - 8 * MIB)
        domain.detach()
        guest.verify()


def test_everybody_dies_while_it_is_paused(thermocline, suspended):
    guest = suspended
    guest.fill(_FILL, seed=175)
    domain = thermocline.attached(guest)
    set_overcommit(guest.name, "<overcommit freeze-paused='1s'/>", "--live")
    domain.wait_for("the setting", lambda now: now["FreezePausedSeconds"] == 1)
    virsh("suspend", guest.name)
    _frozen(domain)
    (manager,) = thermocline.daemon.managers()
    thermocline.daemon.kill()
    thermocline.kill_manager(manager)
    thermocline.start()
    domain = thermocline.domain(guest)
    _frozen(domain)
    _resumed(guest, domain, _FILL)
    assert 'freeze-paused="1s"' in overcommit(guest.name)
    domain.detach()
    guest.verify()


def test_paused_for_less_or_not_asked_for_it_keeps_its_memory(thermocline, suspended):
    guest = suspended
    guest.fill(64 * MIB, seed=176)
    domain = thermocline.attached(guest)
    before = _in_memory(domain.figures())
    virsh("suspend", guest.name)
    _freeze_paused(domain, 3600)
    said = thermocline.ctl("freeze-paused", guest.name, "1h").out
    assert said.strip() == f"{guest.name}: all of its memory goes once it has been paused for 1h"
    figures = domain.figures()
    assert figures["Activity"] == "running" and _in_memory(figures) >= before
    refused = thermocline.ctl("freeze-paused", guest.name, "soon")
    assert refused.code == 2 and "span of time" in refused.err
    # The pause counts from its beginning: what is long enough is so at once.
    _freeze_paused(domain, 1)
    _frozen(domain)
    # Changed one's mind while it is paused: it is all brought back.
    assert thermocline.ctl("freeze-paused", guest.name, "off").code == 0
    domain.wait_for("it to be back", lambda now: now["Activity"] == "running" and _in_memory(now) >= before - 8 * MIB)
    virsh("resume", guest.name)
    guest.verify()
    domain.detach()
