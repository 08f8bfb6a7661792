# SPDX-License-Identifier: Apache-2.0
"""The ground that the other system tests stand on: the guest is what it says, and its verification can fail."""

import os
from pathlib import Path

import pytest

from testbed.deadline import wait_until
from testbed.guest_channel import GuestError
from testbed.process_view import guest_ram, status_bytes
from testbed.sizes import KIB, MIB


def spoil_byte(guest, region, page, offset):
    """Changes one byte of a guest page from outside; returns what it was and what it is now."""
    physical = guest.channel.request(f"where {region} {page}")["physical"]
    address = guest_ram(guest.pid, guest.spec.memory_bytes) + physical + offset
    with open(f"/proc/{guest.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(address)
        before = memory.read(1)[0]
        memory.seek(address)
        memory.write(bytes([before ^ 0x40]))
    return before, before ^ 0x40


def test_libvirt_runs_it_in_its_sandbox_as_another_user(guest):
    status = Path(f"/proc/{guest.pid}/status").read_text()
    assert "Seccomp:\t2" in status
    assert os.stat(f"/proc/{guest.pid}").st_uid != 0


def test_filled_memory_verifies(guest):
    guest.fill(64 * MIB, seed=1)
    guest.fill(8 * MIB, seed=2, random_percent=0)
    guest.touch(5000, write=True)
    assert guest.verify()["bytes"] == 72 * MIB


@pytest.mark.parametrize("offset", [0, 1234, 4095])
def test_verification_names_a_spoilt_byte(guest, offset):
    guest.fill(8 * MIB, seed=3)
    before, after = spoil_byte(guest, region=0, page=1500, offset=offset)
    with pytest.raises(GuestError) as failure:
        guest.verify()
    answer = failure.value.answer
    assert (answer["error"], answer["region"], answer["page"], answer["offset"]) == ("mismatch", 0, 1500, offset)
    assert (answer["expected"], answer["got"], answer["wrong_pages"]) == (before, after, 1)


def test_spinning_notices_a_spoilt_byte(guest):
    guest.fill(1 * MIB, seed=4)
    guest.spin(threads=2, write_percent=0)
    spoil_byte(guest, region=0, page=100, offset=77)

    def noticed():
        try:
            guest.channel.request("progress")
        except GuestError as error:
            return error.answer["page"] == 100
        return False

    wait_until("a spinner finds the byte", noticed)


def test_freed_memory_is_reported_to_the_host(guest):
    guest.fill(96 * MIB, seed=5)
    filled = status_bytes(guest.pid, "RssAnon")
    guest.free(96 * MIB)
    wait_until("free page reporting gives the memory back",
               lambda: status_bytes(guest.pid, "RssAnon") < filled - 80 * MIB)


def test_balloon_takes_and_gives(guest):
    guest.fill(32 * MIB, seed=6)
    free = guest.status()["free_bytes"]
    guest.domain().setMemory(192 * MIB // KIB)
    wait_until("the balloon inflates", lambda: guest.status()["free_bytes"] < free - 48 * MIB)
    guest.domain().setMemory(256 * MIB // KIB)
    wait_until("the balloon deflates", lambda: guest.status()["free_bytes"] > free - 8 * MIB)
    guest.verify()


def test_reboot_keeps_the_process(own_guest):
    guest = own_guest("reboot").start()
    boot = guest.status()["boot_id"]
    pid = guest.pid
    assert guest.reboot()["boot_id"] != boot
    assert guest.pid == pid and guest.process.running


def test_poweroff_ends_the_process(own_guest):
    guest = own_guest("poweroff").start()
    guest.channel.request("poweroff")
    assert guest.process.wait(30.0)
