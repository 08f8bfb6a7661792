# SPDX-License-Identifier: Apache-2.0
"""Balloon, free page reporting and resets race with faults and eviction, under a limit and with proactive reclaim at full
speed: the guest checks every page that it touches, all the time."""

import pytest
from gi.repository import GLib

from integrity.rounds import FULL_SPEED
from testbed.deadline import wait_until
from testbed.memory_testers import StressNg, finish_tester
from testbed.sizes import KIB, MIB

_BALLOON_ROUNDS = 6


def _squeeze(domain, limit):
    """No wait for the limit to be met: eviction is to go on while the test does."""
    domain.start("SetProactive", GLib.Variant("(dt)", (FULL_SPEED, 0))).result()
    domain.set_limit(limit)


def _inflate_and_deflate(guest):
    """Moves a quarter of the guest's memory out of and into it."""
    domain = guest.domain()
    whole = guest.spec.memory_bytes // KIB
    for target in (whole * 3 // 4, whole):
        domain.setMemory(target)
        wait_until(f"the balloon leaves {target} KiB", lambda: domain.memoryStats()["actual"] == target)


def _require_work(before, domain):
    """Pages were evicted and came back meanwhile, or nothing has raced."""
    return domain.wait_for("the figures of the race", lambda figures: figures["EvictedPages"] > before["EvictedPages"] + 1000
                           and figures["ColdFaults"] > before["ColdFaults"] + 1000)


def test_balloon_against_faults_and_eviction(thermocline, guest):
    guest.fill(96 * MIB, seed=131)
    domain = thermocline.attached(guest)
    _squeeze(domain, 96 * MIB)
    before = domain.figures()
    guest.spin(threads=2, write_percent=30)
    for _ in range(_BALLOON_ROUNDS):
        _inflate_and_deflate(guest)
    _require_work(before, domain)
    assert guest.stop_spinning()["written_pages"] > 0
    guest.verify()
    domain.detach()
    guest.verify()


def test_reporting_and_balloon_against_faults_and_eviction(thermocline, own_guest):
    guest = own_guest("reporting", tools=True).start()
    guest.fill(48 * MIB, seed=132)
    domain = thermocline.attached(guest)
    _squeeze(domain, 96 * MIB)
    before = domain.figures()
    # It maps and unmaps its memory again and again, which the guest reports as free.
    tester = StressNg(32 * MIB, operations=3000, method="incdec", workers=1, keep=False)
    guest.start_program(*tester.command())
    guest.spin(threads=1, write_percent=30)
    for _ in range(_BALLOON_ROUNDS // 2):
        _inflate_and_deflate(guest)
    verdict = finish_tester(guest, tester, 120.0)
    assert verdict.clean, verdict
    guest.stop_spinning()
    guest.verify()
    figures = _require_work(before, domain)
    assert figures["ZeroFaults"] > before["ZeroFaults"] + 1000  # what was given back is touched again
    domain.detach()
    guest.verify()


@pytest.mark.parametrize("how", ["reset", "reboot"])
def test_starting_over_under_a_limit(thermocline, own_guest, how):
    guest = own_guest(how).start()
    domain = thermocline.attached(guest)
    _squeeze(domain, 128 * MIB)
    guest.fill(112 * MIB, seed=133)
    guest.verify()
    if how == "reset":
        guest.spin(threads=2, write_percent=30)
        guest.domain().reset()
        guest.wait_ready()
    else:
        guest.reboot()
    assert guest.status()["pages"] == 0
    guest.fill(112 * MIB, seed=134)
    guest.verify()
    figures = domain.wait_for("pages come and go", lambda figures: figures["EvictedPages"] > 1000 and figures["ColdFaults"] > 0)
    assert (figures["State"], figures["LimitBytes"], figures["Pid"]) == ("attached", 128 * MIB, guest.pid)
    domain.detach()
    guest.verify()
