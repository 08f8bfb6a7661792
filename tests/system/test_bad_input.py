# SPDX-License-Identifier: Apache-2.0
"""What cannot be done is refused with a typed error and a message that helps, on D-Bus and on the command line, and
nothing is left half done."""

import pytest
from gi.repository import GLib

from testbed.memory_lock import lock_memory
from testbed.process_view import guest_ram
from testbed.sizes import MIB

from .qemu_state import QemuState, require_unchanged
from .refusals import FAILURE, NO_SUCH_DOMAIN, NOT_SUPPORTED, USAGE, refused, refused_by_cli
from .thermocline import Thermocline

_NOBODY = "4fd1be53-0000-4000-8000-000000000000"


def test_unknown_domain(thermocline):
    def lookup(method, text):
        thermocline.client.manager(method, GLib.Variant("(s)", (text,)))

    assert "no-such-vm" in refused("NoSuchDomain", lookup, "LookupByName", "no-such-vm")
    assert _NOBODY in refused("NoSuchDomain", lookup, "LookupByUuid", _NOBODY)
    refused("InvalidArgument", lookup, "LookupByUuid", "not a uuid")
    for command in (("attach",), ("detach",), ("status",), ("history",)):
        assert "no-such-vm" in refused_by_cli(thermocline, NO_SUCH_DOMAIN, *command, "no-such-vm")
    refused_by_cli(thermocline, NO_SUCH_DOMAIN, "limit", "no-such-vm", "512M")


def test_domain_that_is_shut_off(thermocline, own_guest):
    guest = own_guest("off")
    guest.define()
    domain = thermocline.domain(guest)
    assert "virsh start" in refused("DomainNotRunning", domain.attach)
    refused_by_cli(thermocline, FAILURE, "attach", guest.name)
    figures = domain.figures()
    assert (figures["State"], figures["Managed"], figures["Running"]) == ("detached", False, False)


def test_what_needs_an_attached_domain(thermocline, guest):
    domain = thermocline.domain(guest)
    refused("NotAttached", domain.detach)
    refused("NotAttached", domain.set_limit, 128 * MIB)
    refused_by_cli(thermocline, FAILURE, "detach", guest.name)


@pytest.mark.parametrize("limit", [0, 1, 16 * MIB - 1, 256 * MIB + 1, 1 << 62, (1 << 64) - 1])
def test_limit_out_of_bounds(thermocline, guest, limit):
    domain = thermocline.domain(guest)
    domain.attach()
    domain.set_limit(200 * MIB)
    refused("InvalidLimit", domain.set_limit, limit)
    assert domain.figures()["LimitBytes"] == 200 * MIB


@pytest.mark.parametrize("text", ["12X", "", "-5M", "M", "1..5G", "lots", "99999999999999999999G"])
def test_limit_that_is_no_size(thermocline, guest, text):
    thermocline.domain(guest).attach()
    refused_by_cli(thermocline, USAGE, "limit", "--", guest.name, text)
    assert thermocline.domain(guest).figures()["LimitBytes"] == 0


@pytest.mark.parametrize("text", ["0", "1M", "1G"])
def test_limit_out_of_bounds_by_cli(thermocline, guest, text):
    thermocline.domain(guest).attach()
    refused_by_cli(thermocline, FAILURE, "limit", guest.name, text)
    assert thermocline.domain(guest).figures()["LimitBytes"] == 0


def test_second_attach(thermocline, guest):
    domain = thermocline.domain(guest)
    domain.attach()
    before = domain.figures()
    refused("AlreadyAttached", domain.attach)
    refused_by_cli(thermocline, FAILURE, "attach", guest.name)
    figures = domain.figures()
    assert (figures["State"], figures["AttachPauseMicroseconds"]) == ("attached", before["AttachPauseMicroseconds"])
    assert len(thermocline.daemon.managers()) == 1


def test_attach_by_two_daemons(testbed, thermocline, guest):
    thermocline.domain(guest).attach()
    with Thermocline(testbed) as second:
        domain = second.domain(guest)
        # The first one has written into the guest's metadata that it is to be attached, and this one tries.
        note = domain.wait_for("its refusal", lambda figures: figures["StateNote"])["StateNote"]
        assert "is managed already" in note
        assert not second.daemon.managers()
    assert thermocline.domain(guest).figures()["State"] == "attached"
    guest.fill(16 * MIB)
    guest.verify()


def _require_not_supported(thermocline, guest, word):
    before = QemuState.of(guest)
    domain = thermocline.domain(guest)
    assert word in refused("NotSupported", domain.attach)
    figures = domain.figures()
    assert (figures["State"], figures["Managed"], figures["Supported"]) == ("detached", False, False)
    assert word in figures["SupportReason"] and "memoryBacking" in figures["SupportReason"] + figures["SupportFix"]
    assert word in refused_by_cli(thermocline, NOT_SUPPORTED, "attach", guest.name)
    require_unchanged(guest, before)


@pytest.mark.parametrize("backing, word", [
    ("<source type='file'/><access mode='shared'/>", "shared memory-backend-file"),
    ("<source type='memfd'/><access mode='private'/>", "private memory-backend-memfd")])
def test_memory_of_files(thermocline, own_guest, backing, word):
    guest = own_guest("file-memory", memory_backing=backing).start()
    guest.fill(16 * MIB)
    _require_not_supported(thermocline, guest, word)
    guest.verify()


def test_locked_memory(thermocline, own_guest):
    # Small enough for the usual limit of locked memory, so that it works where libvirt may not raise that.
    guest = own_guest("locked-memory", memory_bytes=4 * MIB, boots=False)
    guest.start_paused()
    lock_memory(guest.pid, guest_ram(guest.pid, 4 * MIB), 4 * MIB)
    _require_not_supported(thermocline, guest, "locked")


def test_history_with_a_wrong_resolution(thermocline, guest):
    refused("InvalidArgument", thermocline.domain(guest).history, 0, 0, "weekly")


def test_wrong_usage_of_the_command_line(thermocline):
    assert thermocline.ctl("frobnicate").code == USAGE
    assert thermocline.ctl("attach").code == USAGE
    assert thermocline.ctl("--help").code == 0
