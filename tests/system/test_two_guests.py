# SPDX-License-Identifier: Apache-2.0
"""Two VMs at once: each has a manager of its own, and neither sees the other's trouble."""

from testbed.sizes import MIB


def test_two_guests_under_limits(thermocline, guest, own_guest):
    other = own_guest("second").start()
    guest.fill(128 * MIB, seed=31)
    other.fill(128 * MIB, seed=32)
    first_domain, second_domain = thermocline.domain(guest), thermocline.domain(other)
    first_domain.attach()
    second_domain.attach()
    first_domain.set_limit(112 * MIB)
    second_domain.set_limit(104 * MIB)
    guest.spin(threads=2)
    other.spin(threads=2)
    first_domain.wait_for("faults of the first", lambda figures: figures["Faults"] > 1000)
    second_domain.wait_for("faults of the second", lambda figures: figures["Faults"] > 1000)
    assert len(thermocline.daemon.managers()) == 2
    guest.stop_spinning()

    other.process.kill()
    second_domain.wait_for_gone()
    guest.verify()
    first_domain.wait_for_limit()
    first_domain.detach()
    guest.verify()
