# SPDX-License-Identifier: Apache-2.0
"""virsh memtune: a hard limit of libvirt's that is lower than ours is the ceiling, and that is told."""

from testbed.sizes import KIB, MIB
from testbed.virsh import virsh

# libvirt's bounds all of QEMU, so there has to be room for the emulator beside what the guest touches in this test.
_HARD = 220 * MIB


def _has_limit(size):
    return lambda figures: figures["State"] == "attached" and figures["LimitBytes"] == size


def test_a_lower_hard_limit_of_libvirt_holds(thermocline, own_guest):
    guest = own_guest("memtune")
    guest.define()
    guest.start()
    # Of a domain that runs: to start with one libvirt has to raise a limit of the process' own, which not every host allows.
    virsh("memtune", guest.name, "--hard-limit", str(_HARD // KIB), "--live")
    domain = thermocline.domain(guest)
    domain.attach()
    assert domain.figures()["LimitBytes"] == 0  # nobody asked for one
    # There is no event for memtune, so it is seen with the next that comes: that of our own word in the metadata.
    domain.set_limit(240 * MIB)
    figures = domain.wait_for("the hard limit", _has_limit(_HARD))
    assert "hard limit of 220.0 MiB (virsh memtune" in figures["LimitNote"]
    assert "virsh memtune" in thermocline.ctl("status", guest.name).out
    domain.set_limit(200 * MIB)
    domain.wait_for("a limit that is lower still, without a note",
                    lambda figures: _has_limit(200 * MIB)(figures) and "memtune" not in figures["LimitNote"])

    # Raised: seen with the next event of any kind.
    domain.set_limit(240 * MIB)
    assert domain.figures()["LimitBytes"] == _HARD
    virsh("memtune", guest.name, "--hard-limit", str(512 * MIB // KIB), "--live")
    guest.domain().suspend()
    guest.domain().resume()
    figures = domain.wait_for("the limit that was set", _has_limit(240 * MIB))
    assert "memtune" not in figures["LimitNote"]
