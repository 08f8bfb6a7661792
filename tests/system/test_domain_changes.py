# SPDX-License-Identifier: Apache-2.0
"""What virsh does to a domain besides running it: rename, undefine, setmem; and a guest that crashes."""

import libvirt

from testbed.deadline import wait_until
from testbed.domain_xml import domain_xml
from testbed.host_services import CONNECT_URI
from testbed.sizes import KIB, MIB
from testbed.virsh import virsh

_LIMIT = 112 * MIB


def _defined_and_stopped(thermocline, guest):
    guest.define()
    guest.start()
    domain = thermocline.attached(guest, limit=_LIMIT)
    guest.destroy()
    domain.wait_for("the domain to stop", lambda now: not now["Running"] and now["State"] == "detached")
    return domain


def _attached_by_itself(guest, domain):
    figures = domain.wait_for_state("attached")
    assert (figures["LimitBytes"], figures["Pid"], figures["Name"]) == (_LIMIT, guest.pid, guest.name)
    guest.fill(128 * MIB, seed=181)
    domain.wait_for_limit()
    guest.verify()
    domain.detach()
    guest.verify()


def test_a_domain_that_was_renamed_keeps_its_settings(thermocline, own_guest):
    guest = own_guest("before")
    domain = _defined_and_stopped(thermocline, guest)
    guest.rename(f"{guest.name}-after")
    domain.wait_for("the new name", lambda now: now["Name"] == guest.name)
    listed = thermocline.ctl("list", "--json").json()
    assert guest.name in [entry["name"] for entry in listed]
    assert thermocline.ctl("status", guest.name.removesuffix("-after")).code == 4  # no such domain
    guest.start()
    _attached_by_itself(guest, domain)


def test_settings_outlive_undefine(thermocline, own_guest):
    """Nova, for one, undefines a domain and defines it anew, without our metadata, with each hard reboot."""
    guest = own_guest("undefined")
    domain = _defined_and_stopped(thermocline, guest)
    virsh("undefine", guest.name)
    domain.wait_for_gone()
    assert thermocline.ctl("status", guest.name).code == 4
    guest.define()
    guest.start()
    _attached_by_itself(guest, thermocline.domain(guest))


def test_undefined_while_it_runs(thermocline, own_guest):
    guest = own_guest("transient")
    guest.define()
    guest.start()
    guest.fill(128 * MIB, seed=182)
    domain = thermocline.attached(guest, limit=_LIMIT)
    virsh("undefine", guest.name)
    guest.verify()
    figures = domain.wait_for_limit()
    assert (figures["State"], figures["Pid"]) == ("attached", guest.pid)
    guest.destroy()
    domain.wait_for_gone()
    libvirt.open(CONNECT_URI).defineXML(domain_xml(guest.spec))  # what the end of the test undefines
    assert not thermocline.daemon.managers()


def test_balloon_under_a_limit(thermocline, guest):
    guest.fill(96 * MIB, seed=183)
    domain = thermocline.attached(guest, limit=128 * MIB)
    used = domain.figures()["UsedBytes"]
    virsh("setmem", guest.name, "176M", "--live")
    libvirt_domain = guest.domain()
    wait_until("the balloon is there", lambda: libvirt_domain.memoryStats()["actual"] == 176 * MIB // KIB)
    figures = domain.wait_for("what the balloon took to be nobody's", lambda now: now["ResidentBytes"] + now["ColdBytes"]
                              + now["StagedBytes"] <= 180 * MIB)
    assert figures["MemoryBytes"] == 256 * MIB and figures["UsedBytes"] <= max(used, 128 * MIB)
    guest.verify()
    virsh("setmem", guest.name, "256M", "--live")
    wait_until("the balloon is gone", lambda: libvirt_domain.memoryStats()["actual"] == 256 * MIB // KIB)
    guest.fill(64 * MIB, seed=184)
    guest.verify()
    domain.wait_for_limit()
    domain.detach()
    guest.verify()


def test_a_guest_that_crashes_is_kept_for_a_look(thermocline, own_guest, testbed):
    guest = own_guest("crashes", panics=True).start()
    guest.fill(128 * MIB, seed=185)
    domain = thermocline.attached(guest, limit=_LIMIT)
    thermocline.ctl("freeze-paused", guest.name, "1s")
    guest.channel.send("crash")
    wait_until("libvirt calls it crashed", lambda: virsh("domstate", guest.name) == "crashed")
    figures = domain.wait_for("its memory to go", lambda now: now["Activity"] == "paused" and now["ResidentBytes"] < 16 * MIB)
    assert (figures["State"], figures["Running"], figures["Pid"]) == ("attached", True, guest.pid)
    core = testbed.run_dir / "core-of-crashed"
    virsh("dump", "--memory-only", guest.name, str(core))
    assert core.stat().st_size > 256 * MIB
    core.unlink()
    virsh("destroy", guest.name)
    assert guest.process.wait(30.0)
    domain.wait_for_gone()
    wait_until("the manager ends", lambda: not thermocline.daemon.managers())
