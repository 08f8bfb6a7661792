# SPDX-License-Identifier: Apache-2.0
"""A device reads and writes guest memory behind the vCPUs' back (O_DIRECT on both sides) while it is under a limit."""

import pytest

from testbed.sizes import MIB

from .conftest import DISK_BYTES

_SEED = 71


@pytest.mark.parametrize("guest_with_disk", ["threads", "native", "io_uring"], indirect=True)
def test_direct_io_lands_where_it_belongs(thermocline, guest_with_disk):
    guest = guest_with_disk
    guest.fill(96 * MIB, seed=72)
    domain = thermocline.domain(guest)
    domain.attach()
    domain.set_limit(144 * MIB)
    domain.wait_for_limit()
    guest.spin(threads=1, write_percent=20)  # so that the limit keeps biting
    pages = DISK_BYTES // 4096
    assert guest.channel.request(f"disk write {_SEED}", seconds=600)["pages"] == pages
    assert guest.channel.request(f"disk read {_SEED} 6", seconds=600)["pages"] == 6 * pages
    guest.stop_spinning()
    guest.verify()
    domain.detach()
    guest.verify()
