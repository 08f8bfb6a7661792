# SPDX-License-Identifier: Apache-2.0
"""A page whose bytes are damaged in the store is never given to the guest: the domain is paused, and everybody is told why."""

import struct

import libvirt

from testbed.sizes import MIB

COLD = 3


def damage_one_cold_page(directory):
    """Flips a byte in the middle of a slot (docs/store-format.md). Its page is one of the guest's memory under test, most
    probably: that is nearly all that is cold."""
    entries = struct.iter_unpack("<Q", (directory / "pagemap").read_bytes())
    cold = [entry for (entry,) in entries if entry & 7 == COLD and entry >> 3 & 0x1fff > 100]
    assert len(cold) > 1000
    entry = cold[len(cold) // 2]
    length, offset = entry >> 3 & 0x1fff, (entry >> 16 & (1 << 36) - 1) * 64
    with open(directory / "arena", "r+b") as arena:
        arena.seek(offset + length // 2)
        (byte,) = arena.read(1)
        arena.seek(offset + length // 2)
        arena.write(bytes([byte ^ 0x40]))


def test_a_damaged_page_pauses_the_domain(thermocline, own_guest):
    guest = own_guest("damaged").start()
    guest.fill(128 * MIB, seed=171)
    domain = thermocline.attached(guest, limit=112 * MIB)
    # The guest is idle: what notices is the manager, when it brings everything back.
    damage_one_cold_page(thermocline.domain_directory(guest))
    domain.clear_limit()
    figures = domain.wait_for("the domain to be paused", lambda now: "it was paused" in now["StateNote"])
    assert figures["LostPages"] > 0 and figures["State"] == "attached"
    assert "page" in figures["StateNote"] and f"virsh resume {guest.name}" in figures["StateNote"]
    assert guest.domain().state() == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER]
    assert figures["StateNote"] in thermocline.ctl("status", guest.name).out
    # Whoever resumes it decides.
    guest.domain().resume()
    domain.set_limit(112 * MIB)
    assert guest.domain().state()[0] == libvirt.VIR_DOMAIN_RUNNING
    guest.destroy()
    domain.wait_for_gone()
