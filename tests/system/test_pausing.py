# SPDX-License-Identifier: Apache-2.0
"""A VM that is paused for long gives all of its memory back, and has it again when it is resumed."""

import tempfile

import pytest
from gi.repository import GLib

from testbed.sizes import MIB
from testbed.virsh import overcommit, set_overcommit, virsh

_FILL = 160 * MIB
_FLOOR = 16 * MIB


def _in_memory(figures):
    return figures["ResidentBytes"] + figures["StagedBytes"]


def _freeze_paused(domain, seconds=1):
    domain.start("SetFreezePaused", GLib.Variant("(u)", (seconds,))).result()


def _frozen(domain):
    return domain.wait_for("its memory to go", lambda now: now["Activity"] == "paused" and _in_memory(now) < _FLOOR)


def _resumed(guest, domain, at_least, note=""):
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


def test_what_was_hot_comes_back_under_a_limit(thermocline, suspended):
    guest = suspended
    guest.fill(96 * MIB, seed=172)  # cold
    guest.fill(48 * MIB, seed=173)  # hot
    domain = thermocline.attached(guest, limit=112 * MIB)
    _freeze_paused(domain)
    hot = [f"where 1 {page}" for page in range(0, 12288, 64)]
    for _ in range(3):
        for where in hot:
            guest.channel.request(where)
    before = domain.figures()
    virsh("suspend", guest.name)
    _frozen(domain)
    back = _resumed_without_a_look(guest, domain, _in_memory(before) * 3 // 4)
    assert back["ColdFaults"] - before["ColdFaults"] < 2000
    assert back["UsedBytes"] <= 112 * MIB
    guest.verify()
    domain.wait_for_limit()
    domain.detach()
    guest.verify()


def _resumed_without_a_look(guest, domain, at_least):
    virsh("resume", guest.name)
    return domain.wait_for("what it had to be back",
                           lambda now: now["Activity"] == "running" and _in_memory(now) > at_least)


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
