# SPDX-License-Identifier: Apache-2.0
"""The main job: no byte of the guest changes under attach, limit, touch, lift and detach."""

from testbed.process_view import status_bytes
from testbed.sizes import MIB

from .qemu_state import QemuState, require_unchanged


def test_every_byte_survives_the_whole_life(thermocline, guest):
    guest.fill(160 * MIB, seed=11)
    guest.fill(16 * MIB, seed=12, random_percent=100)
    before = QemuState.of(guest)
    domain = thermocline.domain(guest)

    domain.attach()
    guest.verify()
    domain.set_limit(144 * MIB)
    squeezed = domain.wait_for_limit()
    assert squeezed["UsedBytes"] <= 144 * MIB
    assert squeezed["ColdBytes"] > 0 and 0 < squeezed["StoreBytes"] < squeezed["ColdBytes"]
    guest.verify()
    guest.touch(20000, pattern="random", write=True)
    guest.touch(50000, pattern="sequential", write=True)
    guest.verify()
    domain.wait_for_limit()

    domain.clear_limit()
    guest.touch(20000, pattern="random", write=True, seed=2)
    guest.verify()
    domain.detach()
    guest.verify()
    require_unchanged(guest, before)


def test_the_host_really_gets_the_memory(thermocline, guest):
    guest.fill(160 * MIB, seed=13)
    before = status_bytes(guest.pid, "RssAnon")
    domain = thermocline.attached(guest, limit=128 * MIB)
    figures = domain.figures()
    taken = before - status_bytes(guest.pid, "RssAnon")
    assert taken > 80 * MIB
    assert figures["ResidentBytes"] + figures["StagedBytes"] + figures["ColdBytes"] <= figures["MemoryBytes"]
    managers = thermocline.daemon.managers()
    assert len(managers) == 1
    # What was saved is not simply somewhere else: the manager holds the store and little more.
    assert status_bytes(managers[0], "VmRSS") < figures["StoreBytes"] + figures["MetadataBytes"] + 24 * MIB


def test_memory_under_fire_stays_right(thermocline, guest):
    guest.fill(160 * MIB, seed=14)
    domain = thermocline.domain(guest)
    guest.spin(threads=2, write_percent=30)
    domain.attach()
    for limit in (160, 128, 112, 144):
        domain.set_limit(limit * MIB)
        domain.wait_for(f"limit {limit} MiB", lambda figures: figures["LimitBytes"] == limit * MIB)
        faults = domain.figures()["Faults"]
        domain.wait_for("faults under the limit", lambda figures: figures["Faults"] > faults + 2000)
    domain.clear_limit()
    domain.detach()
    assert guest.stop_spinning()["written_pages"] > 0
    guest.verify()


def test_detach_under_a_limit_brings_everything_back(thermocline, guest):
    guest.fill(160 * MIB, seed=15)
    before = QemuState.of(guest)
    domain = thermocline.attached(guest, limit=128 * MIB)
    guest.spin(threads=2, write_percent=10)
    domain.detach()
    guest.stop_spinning()
    guest.verify()
    require_unchanged(guest, before)
    figures = domain.figures()
    assert (figures["State"], figures["Managed"], figures["ColdBytes"]) == ("detached", False, 0)


def test_same_filled_and_incompressible_memory(thermocline, guest):
    guest.fill(64 * MIB, seed=16, random_percent=0)
    guest.fill(96 * MIB, seed=17, random_percent=100)
    domain = thermocline.domain(guest)
    domain.attach()
    domain.set_limit(160 * MIB)
    domain.wait_for_limit()
    guest.verify()
    guest.touch(20000, write=True)
    guest.verify()


def test_a_paused_guest_is_squeezed_and_resumed(thermocline, own_guest):
    guest = own_guest("paused").start()
    guest.fill(128 * MIB, seed=18)
    domain = thermocline.domain(guest)
    domain.attach()
    guest.domain().suspend()
    domain.set_limit(128 * MIB)
    domain.wait_for_limit()
    guest.domain().resume()
    guest.verify()
