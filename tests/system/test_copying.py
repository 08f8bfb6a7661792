# SPDX-License-Identifier: Apache-2.0
"""Hosts whose kernel has no UFFDIO_MOVE (before Linux 6.8): pages are copied, where that is safe, and only there."""

from testbed.sizes import MIB

from .qemu_state import QemuState, require_unchanged
from .refusals import NOT_SUPPORTED, refused, refused_by_cli


def test_where_pages_are_copied_no_byte_changes(thermocline_with, guest):
    thermocline = thermocline_with("--mechanism", "copy")
    guest.fill(160 * MIB, seed=141)
    before = QemuState.of(guest)
    domain = thermocline.domain(guest)
    domain.attach()
    assert domain.figures()["Mechanism"] == "copy"
    guest.spin(threads=2, write_percent=30)
    domain.set_limit(128 * MIB)
    faults = domain.figures()["Faults"]
    domain.wait_for("faults under the limit", lambda figures: figures["Faults"] > faults + 2000)
    assert guest.stop_spinning()["written_pages"] > 0
    squeezed = domain.wait_for_limit()
    assert squeezed["ColdBytes"] > 0
    guest.verify()
    domain.clear_limit()
    domain.detach()
    guest.verify()
    require_unchanged(guest, before)


def test_a_guest_whose_disk_writes_into_its_memory_is_refused(thermocline_with, guest_with_disk):
    thermocline = thermocline_with("--mechanism", "copy")
    domain = thermocline.domain(guest_with_disk)
    message = refused("NotSupported", domain.attach)
    assert "is open with O_DIRECT" in message and "Linux 6.8" in message
    assert "O_DIRECT" in refused_by_cli(thermocline, NOT_SUPPORTED, "attach", guest_with_disk.name)
    assert domain.figures()["State"] == "detached"
