# SPDX-License-Identifier: Apache-2.0
"""Managers and thermoclined die by SIGKILL while a guest verifies its memory under a limit; it goes on, with every byte
right."""

from pathlib import Path

import pytest

from testbed.sizes import MIB


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
