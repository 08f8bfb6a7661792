# SPDX-License-Identifier: Apache-2.0
"""The VM ends or starts over while it is under a limit and its faults are pending."""

import pytest

from testbed.deadline import wait_until
from testbed.sizes import MIB


@pytest.fixture
def busy(thermocline, own_guest):
    """A guest under a limit, all vCPUs busy with memory that is not all there."""
    guest = own_guest("busy").start()
    guest.fill(160 * MIB, seed=41)
    domain = thermocline.domain(guest)
    domain.attach()
    domain.set_limit(128 * MIB)
    guest.spin(threads=2, write_percent=30)
    domain.wait_for("faults", lambda figures: figures["ColdFaults"] > 500)
    return guest, domain


def _require_nothing_left(thermocline, guest):
    wait_until("the manager ends", lambda: not thermocline.daemon.managers())
    directory = thermocline.domain_directory(guest)
    wait_until("the run-time files are gone", lambda: not directory.exists() or not list(directory.iterdir()))


def test_killed(thermocline, busy):
    guest, domain = busy
    guest.process.kill()
    domain.wait_for_gone()
    _require_nothing_left(thermocline, guest)


def test_destroyed(thermocline, busy):
    guest, domain = busy
    guest.domain().destroy()
    assert guest.process.wait(30.0)
    domain.wait_for_gone()
    _require_nothing_left(thermocline, guest)


def test_shut_down_by_itself(thermocline, busy):
    guest, domain = busy
    guest.channel.request("poweroff")
    assert guest.process.wait(60.0)
    domain.wait_for_gone()
    _require_nothing_left(thermocline, guest)


def test_rebooted_in_the_same_process(thermocline, busy):
    guest, domain = busy
    pid = guest.pid
    guest.reboot()
    assert domain.figures()["State"] == "attached" and domain.figures()["Pid"] == pid
    guest.fill(160 * MIB, seed=42)
    domain.wait_for_limit()
    guest.verify()
    domain.detach()
    guest.verify()


def test_reset_from_outside(thermocline, busy):
    guest, domain = busy
    guest.domain().reset()
    guest.wait_ready()
    guest.fill(128 * MIB, seed=43)
    guest.verify()
    assert domain.figures()["State"] == "attached"
