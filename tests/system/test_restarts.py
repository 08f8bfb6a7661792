# SPDX-License-Identifier: Apache-2.0
"""libvirtd and thermoclined come and go while a VM is under a limit; the VM's memory stays managed and right."""

import pytest

from testbed.sizes import MIB


@pytest.fixture
def limited(thermocline, guest):
    guest.fill(128 * MIB, seed=91)
    domain = thermocline.attached(guest, limit=112 * MIB)
    return guest, domain


@pytest.fixture
def own_libvirtd(testbed):
    """Ours to stop; runs again afterwards."""
    services = testbed.services
    if not services.owns_libvirtd:
        pytest.skip("libvirtd ran before the tests: it is not ours to stop")
    yield services
    if not services.owns_libvirtd:
        services.start_libvirtd()


def test_libvirtd_restarts(thermocline, limited, own_libvirtd):
    guest, domain = limited
    guest.spin(threads=2)
    own_libvirtd.stop_libvirtd()
    thermocline.client.wait_for_manager_property("HypervisorState", "disconnected")
    assert domain.figures()["State"] == "attached"
    faults = domain.figures()["Faults"]
    domain.wait_for("faults served without libvirtd", lambda figures: figures["Faults"] > faults + 500)
    own_libvirtd.start_libvirtd()
    thermocline.client.wait_for_manager_property("HypervisorState", "connected")
    guest.stop_spinning()
    guest.verify()
    domain.wait_for_limit()
    domain.detach()
    guest.verify()


def test_the_vm_ends_while_libvirtd_is_away(thermocline, own_guest, own_libvirtd):
    guest = own_guest("orphan").start()
    guest.fill(128 * MIB, seed=92)
    domain = thermocline.attached(guest, limit=112 * MIB)
    own_libvirtd.stop_libvirtd()
    thermocline.client.wait_for_manager_property("HypervisorState", "disconnected")
    guest.process.kill()
    own_libvirtd.start_libvirtd()
    thermocline.client.wait_for_manager_property("HypervisorState", "connected")
    domain.wait_for_gone()
    assert not thermocline.daemon.managers()


def test_thermoclined_is_killed_and_restarted(thermocline, limited):
    guest, domain = limited
    before = domain.figures()
    managers = thermocline.daemon.managers()
    guest.spin(threads=2)
    thermocline.daemon.kill()
    assert thermocline.daemon.managers() == managers
    assert guest.channel.request("progress")["ok"]
    thermocline.start()
    domain = thermocline.domain(guest)
    figures = domain.wait_for_state("attached")
    assert thermocline.daemon.managers() == managers
    assert figures["LimitBytes"] == before["LimitBytes"] and figures["Faults"] >= before["Faults"]
    guest.stop_spinning()
    guest.verify()
    domain.wait_for_limit()
    domain.detach()
    guest.verify()
    assert not thermocline.daemon.managers()


def test_thermoclined_ends_and_comes_back(thermocline, limited):
    guest, _domain = limited
    thermocline.daemon.end()
    guest.verify()
    thermocline.start()
    domain = thermocline.domain(guest)
    domain.wait_for_state("attached")
    domain.clear_limit()
    guest.verify()


def test_the_vm_ends_while_thermoclined_is_away(thermocline, own_guest):
    guest = own_guest("unseen").start()
    guest.fill(128 * MIB, seed=93)
    thermocline.attached(guest, limit=112 * MIB)
    thermocline.daemon.kill()
    guest.process.kill()
    guest.destroy()
    thermocline.start()
    assert not thermocline.daemon.managers()
    assert not (thermocline.domain_directory(guest) / "arena").exists()
