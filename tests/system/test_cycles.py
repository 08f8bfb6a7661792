# SPDX-License-Identifier: Apache-2.0
"""A hundred attaches and detaches leave no thread, descriptor, mapping or memory behind, in the VM or in ours."""

from testbed.process_view import descriptors, status_bytes
from testbed.sizes import MIB

from .qemu_state import QemuState, require_unchanged

_CYCLES = 100


def test_a_hundred_cycles_leak_nothing(thermocline, guest):
    guest.fill(64 * MIB, seed=21)
    before = QemuState.of(guest)
    domain = thermocline.domain(guest)
    manager_rss, daemon_rss, daemon_descriptors = [], [], []
    for cycle in range(_CYCLES):
        domain.attach()
        if cycle % 20 == 0:  # some with pages that have to come back
            domain.set_limit(96 * MIB)
            domain.wait_for_limit()
        else:
            manager_rss.append(domain.figures()["ManagerRssBytes"])
        domain.detach()
        daemon_rss.append(status_bytes(thermocline.daemon.process.pid, "RssAnon"))
        daemon_descriptors.append(len(descriptors(thermocline.daemon.process.pid)))
    guest.verify()
    require_unchanged(guest, before)
    assert max(manager_rss[-20:]) <= max(manager_rss[:20]) + 1 * MIB
    assert daemon_rss[-1] <= daemon_rss[19] + 1 * MIB
    assert daemon_descriptors[-1] <= max(daemon_descriptors[:20])
    assert not thermocline.daemon.managers()
