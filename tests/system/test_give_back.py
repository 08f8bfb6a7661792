# SPDX-License-Identifier: Apache-2.0
"""The guest gives memory back while it is under a limit: free page reporting and the balloon."""

import pytest

from testbed.deadline import wait_until
from testbed.sizes import KIB, MIB


@pytest.fixture
def limited(thermocline, guest):
    guest.fill(64 * MIB, seed=51)
    domain = thermocline.domain(guest)
    domain.attach()
    domain.set_limit(128 * MIB)
    return guest, domain


def _held(figures):
    return figures["ResidentBytes"] + figures["StagedBytes"] + figures["ColdBytes"]


def test_reported_free_pages_cost_nothing_more(limited):
    guest, domain = limited
    guest.fill(96 * MIB, seed=52)
    domain.wait_for("the filled pages to count", lambda figures: _held(figures) > 200 * MIB)
    guest.free(96 * MIB)
    # Not all of it: a fragment below the reporting order stays with the guest.
    domain.wait_for("the free pages to leave", lambda figures: _held(figures) < 170 * MIB)
    guest.verify()
    # The same guest pages again, with other content: nothing of the old may come back.
    guest.fill(96 * MIB, seed=53)
    guest.verify()


def test_freeing_and_filling_again_and_again(limited):
    guest, domain = limited
    for round_number in range(5):
        guest.fill(80 * MIB, seed=60 + round_number)
        guest.touch(4000, write=True)
        guest.verify()
        guest.free(80 * MIB)
    guest.verify()
    assert domain.figures()["State"] == "attached"


def test_balloon_inflates_and_deflates(limited):
    guest, domain = limited
    guest.fill(32 * MIB, seed=54)
    domain.wait_for_limit()
    free = guest.status()["free_bytes"]
    guest.domain().setMemory(192 * MIB // KIB)
    wait_until("the balloon inflates", lambda: guest.status()["free_bytes"] < free - 48 * MIB)
    guest.verify()
    guest.domain().setMemory(256 * MIB // KIB)
    wait_until("the balloon deflates", lambda: guest.status()["free_bytes"] > free - 8 * MIB)
    guest.fill(64 * MIB, seed=55)
    guest.verify()
    domain.wait_for_limit()
    guest.verify()
