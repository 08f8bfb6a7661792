# SPDX-License-Identifier: Apache-2.0
"""A device reads and writes guest memory behind the vCPUs' back (O_DIRECT on both sides) while it is under a limit."""

import tempfile
from pathlib import Path

import pytest

from testbed.sizes import MIB

_DISK_BYTES = 48 * MIB
_SEED = 71


@pytest.fixture
def guest_with_disk(own_guest):
    # On a real file system: tmpfs takes O_DIRECT without pinning a page.
    with tempfile.NamedTemporaryFile(prefix="thermocline-", dir="/var/tmp") as file:
        file.truncate(_DISK_BYTES)
        guest = own_guest("disk", disk=Path(file.name)).start()
        yield guest
        guest.close()


def test_direct_io_lands_where_it_belongs(thermocline, guest_with_disk):
    guest = guest_with_disk
    guest.fill(96 * MIB, seed=72)
    domain = thermocline.domain(guest)
    domain.attach()
    domain.set_limit(144 * MIB)
    domain.wait_for_limit()
    guest.spin(threads=1, write_percent=20)  # so that the limit keeps biting
    pages = _DISK_BYTES // 4096
    assert guest.channel.request(f"disk write {_SEED}", seconds=600)["pages"] == pages
    assert guest.channel.request(f"disk read {_SEED} 6", seconds=600)["pages"] == 6 * pages
    guest.stop_spinning()
    guest.verify()
    domain.detach()
    guest.verify()
