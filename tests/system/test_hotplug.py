# SPDX-License-Identifier: Apache-2.0
"""Memory that is plugged in while the domain is under a limit is left alone, and works."""

from testbed.deadline import wait_until
from testbed.domain_xml import dimm_xml
from testbed.sizes import MIB

_FIRST = 256 * MIB
_PLUGGED = 128 * MIB


def _plug(guest):
    before = guest.status()["memory_bytes"]
    guest.domain().attachDevice(dimm_xml(_PLUGGED))
    # A little of it is the guest's own book-keeping.
    wait_until("the guest uses the new memory", lambda: guest.status()["memory_bytes"] > before + _PLUGGED * 7 // 8)


def test_plugged_memory_is_left_alone_and_works(thermocline, own_guest):
    guest = own_guest("hotplug", _FIRST, more_memory_bytes=_PLUGGED).start()
    guest.fill(112 * MIB, seed=141)
    domain = thermocline.attached(guest, limit=128 * MIB)
    _plug(guest)
    guest.fill(104 * MIB, seed=142)  # more than the old memory has room for
    guest.verify()
    guest.touch(20000, write=True)
    guest.verify()
    figures = domain.wait_for("pages come and go", lambda figures: figures["EvictedPages"] > 0 and figures["ColdFaults"] > 0)
    assert (figures["State"], figures["MemoryBytes"], figures["LimitBytes"]) == ("attached", _FIRST, 128 * MIB)
    domain.detach()
    guest.verify()


def test_attaching_after_memory_was_plugged_takes_the_first_only(thermocline, own_guest):
    guest = own_guest("hotplugged", _FIRST, more_memory_bytes=_PLUGGED).start()
    _plug(guest)
    guest.fill(200 * MIB, seed=143)
    domain = thermocline.attached(guest, limit=192 * MIB)
    assert domain.figures()["MemoryBytes"] == _FIRST
    guest.verify()
    domain.detach()
    guest.verify()
