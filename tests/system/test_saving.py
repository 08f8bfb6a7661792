# SPDX-License-Identifier: Apache-2.0
"""All of a VM's memory is read from end to end while much of it is away: save and restore, managed save, snapshots, dumps.
What is written is right, and what comes back is attached again, as it was."""

import random
import struct
import subprocess
from pathlib import Path

import pytest

from testbed.process_view import guest_ram
from testbed.sizes import KIB, MIB
from testbed.virsh import virsh

_FILL = 160 * MIB
_LIMIT = 128 * MIB
_PAGE = 4 * KIB


@pytest.fixture
def files(testbed, own_guest):
    """A directory for what libvirt writes. Below own_guest: the guests end first."""
    directory = testbed.run_dir / "saved"
    directory.mkdir(exist_ok=True)
    directory.chmod(0o777)
    yield directory
    for file in directory.iterdir():
        file.unlink()


def _squeezed(thermocline, guest):
    guest.fill(_FILL, seed=151)
    domain = thermocline.attached(guest, limit=_LIMIT)
    assert domain.figures()["ColdBytes"] > 16 * MIB
    return domain


def _goes_on(guest, domain):
    """It is the same guest, under the same limit again, with every byte right."""
    figures = domain.wait_for("the new process to be attached",
                              lambda now: now["State"] == "attached" and now["Pid"] == guest.pid)
    assert (figures["LimitBytes"], figures["StateNote"], figures["SettingsNote"]) == (_LIMIT, "", "")
    guest.verify()
    domain.wait_for_limit()
    guest.touch(5000, write=True)
    guest.verify()


def _ends_well(guest, domain):
    domain.detach()
    guest.verify()


def test_saved_to_a_file_and_restored(thermocline, own_guest, files):
    guest = own_guest("saved").start()
    domain = _squeezed(thermocline, guest)
    boot = guest.status()["boot_id"]
    before = guest.process
    virsh("save", guest.name, str(files / "save"))
    assert before.wait(30.0)
    domain.wait_for_gone()
    assert not thermocline.daemon.managers()

    virsh("restore", str(files / "save"))
    guest.find_again()
    _goes_on(guest, thermocline.domain(guest))
    assert guest.status()["boot_id"] == boot
    _ends_well(guest, thermocline.domain(guest))


def test_managed_save(thermocline, own_guest, files):
    guest = own_guest("managedsave")
    guest.define()
    guest.start()
    domain = _squeezed(thermocline, guest)
    before = guest.process
    virsh("managedsave", guest.name)
    assert before.wait(30.0)
    figures = domain.wait_for_state("detached")
    assert (figures["Managed"], figures["LimitBytes"]) == (True, _LIMIT)

    virsh("start", guest.name)
    guest.find_again()
    _goes_on(guest, domain)
    _ends_well(guest, domain)


def test_snapshot_with_memory_inside_the_disk(thermocline, own_guest, files):
    disk = files / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1G"], check=True, timeout=60)
    disk.chmod(0o666)
    guest = own_guest("snapshot", disk=disk, disk_format="qcow2")
    guest.define()
    guest.start()
    domain = _squeezed(thermocline, guest)
    virsh("snapshot-create-as", guest.name, "then")
    _goes_on(guest, domain)  # the same process: nothing was lost by taking it

    guest.reset()
    guest.fill(_FILL // 2, seed=152)
    virsh("snapshot-revert", guest.name, "then")
    guest.find_again()
    assert guest.status()["pages"] == _FILL // _PAGE  # what it had then
    _goes_on(guest, domain)
    _ends_well(guest, domain)
    virsh("snapshot-delete", guest.name, "then")


def test_snapshot_with_memory_in_a_file(thermocline, own_guest, files):
    disk = files / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True, timeout=60)
    disk.chmod(0o666)
    guest = own_guest("external", disk=disk, disk_format="qcow2").start()
    domain = _squeezed(thermocline, guest)
    virsh("snapshot-create-as", guest.name, "then", "--memspec", f"file={files / 'memory'},snapshot=external",
          "--diskspec", f"vda,snapshot=external,file={files / 'overlay.qcow2'}")
    _goes_on(guest, domain)
    guest.reset()
    virsh("snapshot-delete", guest.name, "then", "--metadata")
    guest.destroy()
    domain.wait_for_gone()

    # libvirt 9 reverts to none of these by itself: its memory is a save file.
    virsh("restore", str(files / "memory"))
    guest.find_again()
    domain = thermocline.domain(guest)
    _goes_on(guest, domain)
    _ends_well(guest, domain)


def _memory_of_elf(file):
    """(guest-physical address, file offset, bytes) of each piece of memory in a core file."""
    head = file.read(64)
    assert head[:5] == b"\x7fELF\x02"
    (table,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    pieces = []
    for index in range(count):
        file.seek(table + index * size)
        kind, _flags, offset, _virtual, physical, length = struct.unpack("<IIQQQQ", file.read(40))
        if kind == 1:
            pieces.append((physical, offset, length))
    return pieces


def test_dump_of_memory_only(thermocline, guest, files):
    ram = guest_ram(guest.pid, guest.spec.memory_bytes)
    guest.fill(_FILL, seed=153)
    choice = random.Random(1).sample(range(_FILL // _PAGE), 200)
    places = [guest.channel.request(f"where 0 {page}")["physical"] for page in choice]
    with open(f"/proc/{guest.pid}/mem", "rb", buffering=0) as memory:
        expected = []
        for place in places:
            memory.seek(ram + place)
            expected.append(memory.read(_PAGE))
    domain = thermocline.attached(guest, limit=_LIMIT)
    virsh("dump", "--memory-only", guest.name, str(files / "core"))
    with open(files / "core", "rb") as core:
        pieces = _memory_of_elf(core)
        for place, bytes_there in zip(places, expected):
            ((physical, offset, _),) = [piece for piece in pieces if piece[0] <= place < piece[0] + piece[2]]
            core.seek(offset + place - physical)
            assert core.read(_PAGE) == bytes_there, f"page at {place:#x}"
    _goes_on(guest, domain)
    _ends_well(guest, domain)


@pytest.mark.parametrize("how", [["--live"], []], ids=["live", "paused"])
def test_dump_of_everything(thermocline, guest, files, how):
    domain = _squeezed(thermocline, guest)
    guest.spin(threads=1, write_percent=30)
    virsh("dump", *how, guest.name, str(files / "dump"))
    assert Path(files / "dump").stat().st_size > _FILL
    guest.stop_spinning()
    _goes_on(guest, domain)
    _ends_well(guest, domain)
